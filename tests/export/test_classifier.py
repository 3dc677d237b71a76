"""A network becomes a classifier: uint8 input, softmax, float32."""

import keras
import numpy as np
import pytest
from keras import layers

from kapp import models
from kapp.errors import ConfigError
from kapp.export.classifier import build_classifier, float32_copy
from kapp.export.parity import TOLERANCE, default_tolerance, reference_probabilities

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
SMALL = {"classes": 3, "image_shape": (8, 8, 3)}


def numpy(tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_classifier_maps_uint8_images_to_probabilities():
    network = models.build("4c-mp-3fc", **SMALL)
    classifier = build_classifier(network)
    assert classifier.input_shape == (None, 8, 8, 3)
    assert classifier.inputs[0].dtype == "uint8"
    expected = softmax(numpy(network(IMAGES.astype("float32"))))
    np.testing.assert_allclose(numpy(classifier(IMAGES)), expected, atol=1e-6)
    np.testing.assert_allclose(reference_probabilities(network, IMAGES), expected, atol=1e-6)
    assert classifier.count_params() == network.count_params()


def test_a_softmax_is_not_taken_twice():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    network = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    expected = numpy(network(IMAGES))
    np.testing.assert_allclose(numpy(build_classifier(network)(IMAGES)), expected, atol=1e-6)
    np.testing.assert_allclose(reference_probabilities(network, IMAGES), expected, atol=1e-6)


def test_a_network_that_maps_no_images_to_classes_is_refused():
    flat, images = keras.Input((12,)), keras.Input((8, 8, 3))
    for network in (
        keras.Model(flat, layers.Dense(3)(flat)),
        keras.Model(images, layers.Conv2D(3, 1)(images)),
        keras.Model(images, {"a": layers.Dense(3)(layers.Flatten()(images))}),
    ):
        with pytest.raises(ConfigError, match=f"{network.name} must be a functional model, or a Sequential"):
            build_classifier(network)


def test_a_network_for_images_of_any_size_gets_one():
    free = keras.Input((None, None, 3))
    network = keras.Model(free, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(free)))
    assert build_classifier(network).input_shape == (None, None, None, 3)
    classifier = build_classifier(network, (8, 8, 3))
    assert classifier.input_shape == (None, 8, 8, 3)
    expected = softmax(numpy(network(IMAGES.astype("float32"))))
    np.testing.assert_allclose(numpy(classifier(IMAGES)), expected, atol=1e-6)


def test_a_float32_copy_computes_in_float32_with_weights_of_its_own():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.build("4c^2-mp-3fc", **SMALL)
    finally:
        keras.config.set_dtype_policy(policy)
    assert default_tolerance(network) == TOLERANCE["mixed_bfloat16"]
    copy = float32_copy(network)
    assert default_tolerance(copy) == TOLERANCE["float32"]
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
