"""Scores of a classifier: accuracy, loss, calibration. Accuracies are fractions, losses are in nats."""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from kapp.records import CalibrationBin, ClassScores


class Scores(TypedDict):
    """The scores in `result.json`, under their keys there."""

    test_accuracy: float
    test_interval: tuple[float, float]  # Wilson's, 95%
    test_loss: float
    calibration_error: float


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the fraction of images whose greatest logit is the label's.

    Args:
        logits: (n, classes).
        labels: (n,), class indices.

    Example:

    >>> accuracy(np.array([[0.2, 0.8], [0.9, 0.1]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of -log softmax(logits)[label], in nats.

    Args:
        logits: (n, classes).
        labels: (n,), class indices.

    Example:

    >>> cross_entropy(np.zeros((1, 2)), np.array([0]))  # log 2
    0.6931471805599453
    """
    return float(-np.mean(_log_softmax(logits)[np.arange(len(labels)), labels]))


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's confidence interval of an accuracy.

    It covers the sampling noise of the test images, not the spread between seeds.

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        correct: the number of correct predictions.
        count: the number of images.
        confidence: the interval's confidence level.

    Returns:
        (low, high), fractions; (0, 1) without images.

    Example:

    >>> [round(end, 3) for end in wilson_interval(50, 100)]
    [0.404, 0.596]
    """
    from scipy.stats import binomtest  # late: it takes most of a second to import

    if count == 0:
        return 0.0, 1.0
    low, high = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns the expected calibration error: how far confidence is from accuracy, a fraction.

    Images fall into `bins` equally wide bins by their confidence, the greatest probability. The error is the
    mean over images of |accuracy - mean confidence| of their bin.

    Reference: Guo et al. 2017, "On calibration of modern neural networks", section 2.

    Args:
        logits: (n, classes).
        labels: (n,), class indices.
        bins: the number of bins; 15 in the paper.

    Returns:
        The error; NaN where a logit isn't finite.
    """
    confidence, correct, bin_of_image = _binned(logits, labels, bins)
    if not np.isfinite(confidence).all():
        return math.nan
    gaps = np.bincount(bin_of_image, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def calibration_bins(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> tuple[CalibrationBin, ...]:
    """Returns the bins of `calibration_error`, the lowest confidence first; arguments as there."""
    confidence, correct, bin_of_image = _binned(logits, labels, bins)

    def mean(values: np.ndarray) -> float | None:
        return float(values.mean()) if len(values) else None

    return tuple(
        CalibrationBin(
            low=i / bins,
            high=(i + 1) / bins,
            images=int((bin_of_image == i).sum()),
            confidence=mean(confidence[bin_of_image == i]),
            accuracy=mean(correct[bin_of_image == i]),
        )
        for i in range(bins)
    )


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Returns the counts (classes, classes) of images: rows are true classes, columns predicted ones.

    Args:
        labels: (n,), class indices.
        predicted: (n,), class indices.
        classes: the number of classes.

    Example:

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = np.asarray(labels).astype(int) * classes + np.asarray(predicted).astype(int)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(counts: np.ndarray, classes: Sequence[str]) -> tuple[ClassScores, ...]:
    """Returns recall, precision and the most frequent mistake of each class.

    Args:
        counts: (classes, classes), as from `confusion`.
        classes: their names, in the order of `counts`.
    """
    scores = []
    for i, name in enumerate(classes):
        images, predictions, correct = int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])
        mistakes = np.where(np.arange(len(classes)) == i, 0, counts[i])
        scores += [
            ClassScores(
                name=name,
                images=images,
                recall=correct / images if images else None,
                interval=wilson_interval(correct, images),
                precision=correct / predictions if predictions else None,
                most_confused_with=classes[int(mistakes.argmax())] if mistakes.any() else None,
            )
        ]
    return tuple(scores)


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Returns the test scores of a run.

    Args:
        logits: (n, classes).
        labels: (n,), class indices.
    """
    correct = int(np.sum(np.argmax(logits, axis=1) == labels))
    return {
        "test_accuracy": accuracy(logits, labels),
        "test_interval": wilson_interval(correct, len(labels)),
        "test_loss": cross_entropy(logits, labels),
        "calibration_error": calibration_error(logits, labels),
    }


def _binned(logits: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image: its confidence, whether its prediction is correct, and its bin; each (n,)."""
    confidence = np.exp(_log_softmax(logits).max(axis=1))
    correct = np.argmax(logits, axis=1) == labels
    # Bin i is (i / bins, (i + 1) / bins], open on the left as in the paper.
    edges = np.ceil(np.nan_to_num(confidence) * bins).astype(int)
    return confidence, correct, np.clip(edges - 1, 0, bins - 1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    # exp overflows unless the greatest logit is 0; in float16 from 11 on.
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
