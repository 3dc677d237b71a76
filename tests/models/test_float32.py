"""Networks in float32, compared with the same layers built in float32."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import ndtr

from kapp import models
from kapp.layers.activation import Activation
from kapp.models.float32 import float32_copy, is_float32

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
SMALL = {"classes": 3, "image_shape": (8, 8, 3)}


def numpy(tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def in_bfloat16(notation: str) -> keras.Model:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return models.build(notation, **SMALL)
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("notation", ["4c^2-mp-d0.3-8fc-3fc", "res-4c^2-6c^2-gap-3fc"])
def test_a_copy_predicts_as_the_same_network_built_in_float32(notation):
    network = in_bfloat16(notation)
    expected = models.build(notation, **SMALL)
    expected.set_weights(network.get_weights())
    copy = float32_copy(network)
    np.testing.assert_allclose(numpy(copy(IMAGES)), numpy(expected(IMAGES)), rtol=1e-5, atol=1e-5)
    assert np.abs(numpy(network(IMAGES)) - numpy(expected(IMAGES))).max() > 1e-4


def test_a_float32_copy_computes_in_float32_with_weights_of_its_own():
    network = in_bfloat16("4c^2-mp-3fc")
    assert not is_float32(network)
    copy = float32_copy(network)
    assert is_float32(copy)
    np.testing.assert_allclose(numpy(copy(IMAGES)), numpy(network(IMAGES)), atol=0.1)
    before = [numpy(weight) for weight in network.weights]
    copy.set_weights([weight + 1 for weight in copy.get_weights()])
    for weight, old in zip(network.weights, before):
        np.testing.assert_array_equal(numpy(weight), old)


def test_an_adapted_normalization_keeps_its_statistics():
    inputs = keras.Input((8, 8, 3))
    normalization = layers.Normalization()
    normalization.adapt(IMAGES.astype("float32"))
    inner = keras.Sequential([keras.Input((8, 8, 3)), normalization, layers.Flatten()])  # nested
    network = keras.Model(inputs, layers.Dense(3)(inner(inputs)))
    copy = float32_copy(network)
    np.testing.assert_allclose(numpy(copy(IMAGES)), numpy(network(IMAGES)), atol=1e-5)


def test_models_that_kapp_did_not_build_are_copied():
    """A Sequential, nested models, and operations instead of layers."""
    images = keras.Input((8, 8, 3))
    augment = keras.Sequential([keras.Input((8, 8, 3)), layers.RandomFlip()])
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    network = keras.Model(images, inner(augment(images / 255.0) - 0.5))
    copy = float32_copy(network)
    expected, found = (numpy(each(IMAGES.astype("float32"), training=False)) for each in (network, copy))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gelu_becomes_one_that_can_be_exported():
    """On TensorFlow, Keras's is an operation that ONNX doesn't have."""
    x = np.linspace(-4, 4, 32).reshape(1, 4, 4, 2).astype("float32")
    copy = float32_copy(keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Activation("gelu")]))
    assert type(copy.layers[0]) is Activation
    np.testing.assert_allclose(keras.ops.convert_to_numpy(copy(x)), x * ndtr(x), atol=1e-6)
