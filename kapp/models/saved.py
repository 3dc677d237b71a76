"""A .keras file -> a network, without running code that it may hold."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

import kapp.models.pooling  # noqa: F401  (registers the layer that a file of ours may hold)
from kapp.errors import Failure


def load(path: Path) -> keras.Model:
    """The model in the .keras file `path`, uncompiled.

    Raises:
        Failure: the file is damaged, or holds code.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what its zip, JSON, HDF5 and layers raise
        first_line = str(error).strip().partition("\n")[0]
        raise Failure(f"cannot load {path}: {first_line} Save it again with model.save().") from error


def answers_in_probabilities(network: keras.Model) -> bool:
    """Whether `network` ends in a softmax, in whatever way it was written: its answers to a few images of
    noise are tried."""
    shape = [8, *(side or 32 for side in network.input_shape[1:])]
    noise = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    answers = ops.convert_to_numpy(ops.cast(network(noise, training=False), "float32"))
    return bool((answers >= 0).all() and np.allclose(answers.sum(axis=-1), 1, atol=0.01))
