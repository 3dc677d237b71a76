"""Parity: how closely an export reproduces the probabilities of its network."""

import keras
import numpy as np

from kapp.errors import KappError
from kapp.export.predictor import Predictor, softmax
from kapp.keras_internals import flatten_layers
from kapp.models.keras_file import outputs_probabilities
from kapp.records import Parity

# The largest accepted difference of a probability. Runtimes add in another order: about 1e-6 in float32. A
# network trained in bfloat16 is exported in float32; its own probabilities are exact to two or three digits.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 5e-2}


def default_tolerance(network: keras.Model) -> float:
    """The largest accepted difference of a probability, by the precision of `network`."""
    dtypes = {layer.compute_dtype for layer in flatten_layers(network)}
    return TOLERANCE["float32" if dtypes <= {"float32"} else "mixed_bfloat16"]


def reference_probabilities(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """The probabilities (n, classes) that `network` itself predicts, in its own precision.

    Shares no code with the export: NumPy computes the softmax.

    Args:
        images: uint8 (n, height, width, channels).
    """
    outputs = keras.ops.convert_to_numpy(network.predict_on_batch(images.astype("float32")))
    outputs = np.asarray(outputs, np.float64)
    return outputs if outputs_probabilities(network) else softmax(outputs)


def measure(
    expected: np.ndarray, predictor: Predictor, images: np.ndarray, tolerance: float, compared_on: str
) -> Parity:
    """Compare the probabilities of an export, of whole batches and of one image alone, with `expected`.

    Args:
        expected: the network's probabilities (n, classes).
        images: uint8 (n, height, width, channels).
        tolerance: the largest accepted difference of a probability.
        compared_on: a description of the images.

    Raises:
        KappError: the difference is larger, or the shapes differ.
    """
    probabilities, first = predictor.predict(images), predictor.predict(images[:1])
    if probabilities.shape != expected.shape:
        raise KappError(
            f"the {predictor.format} export predicts {probabilities.shape}, the network {expected.shape}."
        )
    difference = max(np.abs(probabilities - expected).max(), np.abs(first - expected[:1]).max())
    if not difference <= tolerance:
        raise KappError(
            f"the {predictor.format} export differs from the network: by {difference:.1e} in a probability, "
            f"and the tolerance is {tolerance:.0e}. The export was deleted. Raise --tolerance to accept it."
        )
    agreement = np.mean(probabilities.argmax(axis=1) == expected.argmax(axis=1))
    return Parity(len(images), compared_on, float(difference), tolerance, float(agreement))
