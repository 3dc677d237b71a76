"""A network becomes a classifier: uint8 input, softmax."""

import keras
import numpy as np
import pytest
from keras import layers

from kapp import models
from kapp.errors import ConfigError
from kapp.export.classifier import build_classifier
from kapp.export.parity import reference_probabilities

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
