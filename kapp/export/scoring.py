"""The scores of one model on one data set."""

from collections.abc import Sequence

import numpy as np

import kapp
from kapp import data, hardware
from kapp.data.dataset import classes_match
from kapp.errors import ConfigError
from kapp.export import latency
from kapp.export.predictor import Predictor
from kapp.metrics import classification
from kapp.records import ModelScores, RunSummary, Software

MIN_PROBABILITY = 1e-38  # smaller ones count as this, so that their logarithm is finite


def predict(model: Predictor, dataset: data.Dataset, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Probabilities (n, classes) of `images`, uint8 (n, height, width, channels), which are of `dataset`.

    Raises:
        ConfigError: the model has other classes than the data set, or the same in another order; or it takes
            images of another size.
    """
    expected = dataset.classes
    if model.classes and len(model.classes) == len(expected) and not classes_match(model.classes, expected):
        raise ConfigError(
            f"the classes of {model.name} are {', '.join(model.classes)}; those of {dataset.name} are "
            f"{', '.join(expected)}. They must be the same, in the same order."
        )
    probabilities = model.predict(images, batch_size)
    if probabilities.shape[1] != len(expected):
        raise ConfigError(
            f"{model.name} has {probabilities.shape[1]} classes, {dataset.name} has {len(expected)}. "
            "They must be the same."
        )
    return probabilities


def score(
    model: Predictor, probabilities: np.ndarray, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> ModelScores:
    """The quality, size and speed of `model`.

    Args:
        probabilities: (n, classes), those that the model predicts for the images.
        images: uint8 (n, height, width, channels).
        labels: (n,).
        batch_size: in which to measure the throughput.
    """
    correct = int(np.sum(probabilities.argmax(axis=1) == labels))
    logits = to_logits(probabilities)
    speed = latency.measure(model, images, batch_size)
    return ModelScores(
        name=model.name,
        label=model.label,
        format=model.format,
        accuracy=correct / len(labels),
        interval=classification.wilson_interval(correct, len(labels)),
        loss=classification.cross_entropy(logits, labels),
        calibration_error=classification.calibration_error(logits, labels),
        parameters=model.parameters,
        flops=model.flops,
        size_bytes=model.size_bytes,
        device=model.runtime.device,
        latency_ms=speed.latency_ms,
        images_per_second=speed.images_per_second,
        batch_size=batch_size,
        parity=model.parity,
    )


def shared_validation_images(dataset: data.Dataset, models: Sequence[Predictor]) -> int:
    """How many validation images of `dataset` none of the models was trained on.

    A smaller validation split is part of a larger one: this is the smallest number among the models.

    Args:
        dataset: with the default split, which is assumed for models without a run on this data set. It has no
            validation images of its own: nobody is trained on those.

    Raises:
        ConfigError: there are none.
    """
    fewest = min(_held_out(model.run, dataset) for model in models)
    if not fewest:
        raise ConfigError("the model was trained without validation images. Use --split test.")
    return fewest


def _held_out(run: RunSummary | None, dataset: data.Dataset) -> int:
    """The number of validation images of `run`; the default, if it is of another data set."""
    if run and (run.dataset == dataset.name or run.data_sha256 == dataset.checksum):
        return run.validation_images
    return len(dataset.validation)


def reported_accuracy(model: Predictor, split: str, dataset: data.Dataset) -> float | None:
    """The accuracy that the model's run measured on exactly these images; None if it didn't."""
    is_same = model.run and split == "test" and model.run.data_sha256 == dataset.checksum
    return model.run.test_accuracy if model.run and is_same else None


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits of probabilities (n, classes), for metrics of logits.

    Example:

    >>> to_logits(np.array([[1.0, 0.0]])).round(1)
    array([[  0. , -87.5]])
    """
    return np.log(np.maximum(probabilities, MIN_PROBABILITY))


def software(*packages: str) -> Software:
    """The running version of kapp, and the installed versions of `packages`."""
    return Software(kapp.__version__, hardware.commit(), hardware.versions(*packages))
