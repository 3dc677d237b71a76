"""From a network to a classifier: the cast, the softmax, float32."""

import keras
import numpy as np
import pytest
from keras import layers

from kapp import models
from kapp.errors import WrongValue
from kapp.models import networks
from kapp.serving import classifier as made
from kapp.serving import parity

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
SMALL = {"classes": 3, "image_shape": (8, 8, 3)}


def numpy(tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_classifier_takes_bytes_and_gives_probabilities():
    network = models.build("4c-mp-3fc", **SMALL)
    whole = made.classifier(network)
    assert whole.input_shape == (None, 8, 8, 3)
    assert whole.inputs[0].dtype == "uint8"
    expected = softmax(numpy(network(IMAGES.astype("float32"))))
    np.testing.assert_allclose(numpy(whole(IMAGES)), expected, atol=1e-6)
    np.testing.assert_allclose(parity.reference(network)(IMAGES), expected, atol=1e-6)
    assert whole.count_params() == network.count_params()


def test_a_softmax_is_not_taken_twice():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    network = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    expected = numpy(network(IMAGES))
    np.testing.assert_allclose(numpy(made.classifier(network)(IMAGES)), expected, atol=1e-6)
    np.testing.assert_allclose(parity.reference(network)(IMAGES), expected, atol=1e-6)


def test_what_maps_no_images_of_one_size_to_classes_is_refused():
    flat, free, images = keras.Input((12,)), keras.Input((None, None, 3)), keras.Input((8, 8, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(free))
    with pytest.raises(WrongValue, match="isn't a functional model that maps images"):
        made.classifier(keras.Model(flat, layers.Dense(3)(flat)))
    with pytest.raises(WrongValue, match="isn't a functional model that maps images"):
        made.classifier(keras.Model(images, layers.Conv2D(3, 1)(images)))
    with pytest.raises(WrongValue, match="isn't a functional model that maps images"):
        made.classifier(keras.Model(images, {"a": layers.Dense(3)(layers.Flatten()(images))}))
    with pytest.raises(WrongValue, match=r"takes images of any size.*keras.Input\(\(32, 32, 3\)\)"):
        made.classifier(keras.Model(free, pooled))


def test_a_portable_copy_computes_in_float32_with_weights_of_its_own():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.build("4c^2-mp-3fc", **SMALL)
    finally:
        keras.config.set_dtype_policy(before)
    assert parity.precision(network) == "mixed_bfloat16"
    copy = made.portable(network)
    assert parity.precision(copy) == "float32"
    np.testing.assert_allclose(numpy(copy(IMAGES)), numpy(network(IMAGES)), atol=0.1)
    kept = [numpy(weight) for weight in network.weights]
    copy.set_weights([weight + 1 for weight in copy.get_weights()])
    for weight, old in zip(network.weights, kept):
        np.testing.assert_array_equal(numpy(weight), old)


def test_an_adapted_normalization_keeps_what_it_learned():
    inputs = keras.Input((8, 8, 3))
    normalise = layers.Normalization()
    normalise.adapt(IMAGES.astype("float32"))
    inner = keras.Sequential([keras.Input((8, 8, 3)), normalise, layers.Flatten()])  # nested, too
    network = keras.Model(inputs, layers.Dense(3)(inner(inputs)))
    copy = made.portable(network)
    np.testing.assert_allclose(numpy(copy(IMAGES)), numpy(network(IMAGES)), atol=1e-5)


def test_flops_are_known_where_every_product_is_counted():
    network = models.build("4c-mp-3fc", **SMALL)
    assert networks.flops(network) == 2 * (8 * 8 * 27 * 4 + 4 * 4 * 4 * 3)
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.DepthwiseConv2D(3)(inputs))
    other = keras.Model(inputs, layers.Dense(3)(x))
    assert networks.flops(other) is None
    assert networks.flops(keras.Model(inputs, layers.Softmax()(other(inputs)))) is None


def test_models_that_others_write_are_counted_and_copied():
    """A Sequential, another model within, arithmetic on tensors instead of layers."""
    images = keras.Input((8, 8, 3))
    augment = keras.Sequential([keras.Input((8, 8, 3)), layers.RandomFlip()])
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    network = keras.Model(images, inner(augment(images / 255.0) - 0.5))
    operations = 2 * (3 * 3 * 3 * 4 * 6 * 6 + 6 * 6 * 4 * 3)
    assert networks.flops(inner) == networks.flops(network) == operations
    copy = made.portable(network)
    expected, found = (numpy(each(IMAGES.astype("float32"), training=False)) for each in (network, copy))
    np.testing.assert_allclose(found, expected, atol=1e-6)
