"""What one evaluation says of one model: pure numbers, ready for evaluation.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import kapp
from kapp import data, machine
from kapp.data.classes import agree
from kapp.errors import WrongValue
from kapp.reporting import scores
from kapp.serving import timing
from kapp.serving.predictor import Predictor

SMALLEST = 1e-38  # a probability of which a logarithm is taken
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "onnxruntime", "ai-edge-litert")


def describe(
    model: Predictor, probabilities: np.ndarray, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """Quality, size and speed of `model`.

    Args:
        probabilities: float (n, classes), its answers to `images`, uint8 (n, height, width, channels).
        labels: (n,).
        batch_size: of the throughput.
    """
    correct = int(np.sum(probabilities.argmax(axis=1) == labels))
    return {
        "name": model.name,
        "label": model.label,
        "kind": model.kind,
        "accuracy": correct / len(labels),
        "interval": list(scores.wilson_interval(correct, len(labels))),
        "loss": scores.cross_entropy(logits(probabilities), labels),
        "calibration_error": scores.calibration_error(logits(probabilities), labels),
        "parameters": model.facts.get("parameters"),
        "flops": model.facts.get("flops"),
        "bytes": model.bytes,
        "parity": model.facts.get("parity"),  # of an export
        "device": model.device,
        **timing.measure(model, images, batch_size),
    }


def answers(model: Predictor, dataset: data.Dataset, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """The probabilities (n, classes) that `model` gives to images of the data set.

    Raises:
        WrongValue: the model knows other classes than the data set, or the same in another order; or takes
            images of another size.
    """
    theirs = dataset.classes
    if model.classes and len(model.classes) == len(theirs) and not agree(model.classes, theirs):
        raise WrongValue(
            f"{model.name} knows the classes {', '.join(model.classes)}; {dataset.name} has "
            f"{', '.join(theirs)}. They must be the same, in the same order."
        )
    probabilities = model.predict(images, batch_size)
    if probabilities.shape[1] != len(theirs):
        raise WrongValue(
            f"{model.name} knows {probabilities.shape[1]} classes, {dataset.name} has {len(theirs)}: they "
            "must be the same."
        )
    return probabilities


def held_out(dataset: data.Dataset, models: Sequence[Predictor]) -> int:
    """How many images of the data set none of these models was trained on: the fewest that one held out.

    The split is seeded and its validation images are its first, so that fewer are a part of more.

    Args:
        dataset: as `data.load` splits it, with a fifth to select by, as do models that don't tell.

    Raises:
        WrongValue: there is none.
    """
    told = [m.facts.get("validation") if m.facts.get("dataset") == dataset.name else None for m in models]
    fewest = min(len(dataset.validation) if count is None else count for count in told)
    if not fewest:
        raise WrongValue("the model was trained without validation images. There is --split test.")
    return fewest


def said(model: Predictor, split: str, dataset: data.Dataset) -> float | None:
    """The accuracy that the model's own run measured on these very images."""
    same = split == "test" and model.facts.get("data_sha256") == dataset.checksum
    return model.facts.get("test_accuracy") if same else None


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits of these probabilities (n, classes), for scores that ask for logits."""
    return np.log(np.maximum(probabilities, SMALLEST))


def circumstances() -> dict[str, Any]:
    """Which kapp, and which versions, the evaluation ran on."""
    return {
        "kapp": kapp.__version__,
        "commit": machine.commit(),
        "versions": machine.versions(*PACKAGES),
    }
