"""Logits and labels become the numbers of a result; accuracies are fractions, losses nats."""

import math
from statistics import NormalDist

import numpy as np


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose greatest logit is the label's: logits (n, classes), labels (n,)."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -log softmax(logits)[label], in nats: logits (n, classes), labels (n,)."""
    return float(-np.mean(_log_softmax(logits)[np.arange(len(labels)), labels]))


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where an accuracy seen as `correct` of `count` lies with this confidence.

    It says how far the test images alone leave the accuracy open, not how seeds scatter.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Returns:
        (low, high), fractions within 0 and 1.
    """
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)  # 1.959964 at 95%
    share = correct / count
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    # Rounding may step over the ends by 1e-17, and past the share itself at 0 and 1.
    return max(0.0, min(share, (middle - half) / scale)), min(1.0, max(share, (middle + half) / scale))


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The expected calibration error: how far confidence lies from accuracy, as a fraction.

    The rows fall into `bins` equally wide bins by their greatest probability; the result is the
    mean over rows of |accuracy - mean confidence| of their bin.
    Source: Guo et al. 2017, "On calibration of modern neural networks", section 2.

    Args:
        logits: (n, classes).
        labels: (n,).
        bins: how many; 15 in the paper.
    """
    confidence, right, bin_of_row = _binned(logits, labels, bins)
    if not np.isfinite(confidence).all():
        return math.nan
    gaps = np.bincount(bin_of_row, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def calibration_bins(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[dict[str, float | None]]:
    """The bins of `calibration_error`, the least confident first: where each begins and ends, how many
    `images` it holds, their mean `confidence` and their `accuracy` (None in an empty one)."""
    confidence, right, bin_of_row = _binned(logits, labels, bins)
    rows: list[dict[str, float | None]] = []
    for m in range(bins):
        held = bin_of_row == m
        means = [float(values[held].mean()) if held.any() else None for values in (confidence, right)]
        rows += [
            {
                "from": m / bins,
                "to": (m + 1) / bins,
                "images": int(held.sum()),
                "confidence": means[0],
                "accuracy": means[1],
            }
        ]
    return rows


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes): one row a true class, one column a predicted class."""
    pairs = np.asarray(labels).astype(int) * classes + np.asarray(predicted).astype(int)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | list[float]]:
    """The test keys of `result.json`: logits (n, classes), labels (n,)."""
    correct = int(np.sum(np.argmax(logits, axis=1) == labels))
    return {
        "test_accuracy": accuracy(logits, labels),
        "test_interval": list(wilson_interval(correct, len(labels))),
        "test_loss": cross_entropy(logits, labels),
        "calibration_error": calibration_error(logits, labels),
    }


def _binned(logits: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, ...]:
    """Of each row: its greatest probability, whether it is right, and its bin."""
    confidence = np.exp(_log_softmax(logits).max(axis=1))
    right = np.argmax(logits, axis=1) == labels
    # Bin m is ((m - 1) / bins, m / bins], open on the left as in the paper.
    edges = np.ceil(np.nan_to_num(confidence) * bins).astype(int)
    return confidence, right, np.clip(edges - 1, 0, bins - 1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    # Without the greatest logit at 0, exp overflows; in float16 it would from 11 on.
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
