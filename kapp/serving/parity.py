"""Parity: whether an export, loaded again, answers as the network does."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kapp.errors import Failure
from kapp.models.saved import answers_in_probabilities
from kapp.serving.predictor import Predictor, softmax

# The largest difference of a probability. Runtimes add up in another order: some 1e-6 in float32. A network
# trained in bfloat16 is exported in float32, and its own answers are good to two or three digits only.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 5e-2}


def precision(network: keras.Model) -> str:
    """The key of `TOLERANCE` that goes with the dtypes that `network` computes in."""
    dtypes = {layer.compute_dtype for layer in network._flatten_layers()}
    return "float32" if dtypes <= {"float32"} else "mixed_bfloat16"


def reference(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """What `network` itself answers, in its own precision, the softmax taken by NumPy: nothing that makes
    an export has a part in it."""
    probabilistic = answers_in_probabilities(network)

    def answer(images: np.ndarray) -> np.ndarray:
        answers = keras.ops.convert_to_numpy(network.predict_on_batch(images.astype("float32")))
        answers = np.asarray(answers, np.float64)
        return answers if probabilistic else softmax(answers)

    return answer


def measure(
    expected: np.ndarray, predictor: Predictor, images: np.ndarray, tolerance: float
) -> dict[str, Any]:
    """How far the answers of `predictor` lie from those `expected`, to whole batches and to one image alone.

    Args:
        expected: probabilities (n, classes).
        images: uint8 (n, height, width, channels), to which they belong.
        tolerance: the largest difference of a probability that is accepted.

    Returns:
        For the manifest: how many images, the largest difference, the share of the same classes.

    Raises:
        Failure: the difference is larger, or the answers have another shape.
    """
    answers = predictor.predict(images)
    alone = predictor.predict(images[:1])
    if answers.shape != expected.shape:
        raise Failure(f"the {predictor.kind} export answers {answers.shape}, the network {expected.shape}.")
    difference = max(np.abs(answers - expected).max(), np.abs(alone - expected[:1]).max())
    if not difference <= tolerance:
        raise Failure(
            f"the {predictor.kind} export isn't the network: a probability differs by {difference:.1e}, more "
            f"than the {tolerance:.0e} accepted. It wasn't kept; --tolerance accepts more."
        )
    same = np.mean(answers.argmax(axis=1) == expected.argmax(axis=1))
    return {
        "images": len(images),
        "largest_difference": float(difference),
        "tolerance": tolerance,
        "same_class": float(same),
    }
