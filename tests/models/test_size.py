"""The size of a network from its layer specs, compared with Keras's own count."""

import math

import keras
import pytest

from kapp import models
from kapp.errors import ConfigError
from kapp.models.size import Size, measure
from kapp.papers import hu

NOTATIONS = (
    "8c5x5/2-mp3x3/2-16cv-ap2x2-20fc-3fc",
    "8cp3-mp3x3/2v-d0.2-12c1x1-3c1x1-gap",
    "res-4c^2-6c^2-gap-3fc",
    "res-3c^2-8c^4-3fc",
)


def keras_size(network: keras.Model) -> tuple[int, int]:
    """Its parameters, and the outputs of the layers that `Size.activations` counts."""
    counted = ("Conv2D", "Dense", "BatchNormalization", "MaxPooling2D", "ReLU")
    layers = [layer for layer in network.layers if type(layer).__name__ in counted]
    return network.count_params(), sum(math.prod(layer.output.shape[1:]) for layer in layers)


@pytest.mark.parametrize("name", [*models.names(), *NOTATIONS])
def test_it_has_the_parameters_of_the_network_and_at_most_its_activations(name):
    width = 0.1 if name in models.names() else 1.0
    size = measure(name, 3, (32, 32, 3), width)
    parameters, activations = keras_size(models.build(name, 3, width))
    assert size.parameters == parameters
    assert 0.4 * activations < size.activations <= activations


@pytest.mark.parametrize("variant", ["relu_logits", "corner", "dropout", "filters"])
def test_code_variants_change_it(variant):
    assert variant in hu.code_variants("all_cnn_a")
    network = models.build("all_cnn_a", 3, 0.1, code_variants=[variant])
    assert measure("all_cnn_a", 3, (32, 32, 3), 0.1, [variant]).parameters == network.count_params()


@pytest.mark.parametrize("name", ["8c-mp-3fc", "all_cnn_c", "teacher_1", "8cv-3fc", "8c-ap2x2-3fc"])
def test_images_that_are_too_small_are_refused_as_keras_refuses_them(name):
    with pytest.raises(ConfigError, match="the layers don't fit images of .1, 1, 3.: .* map of 1x1 pixels"):
        measure(name, 3, (1, 1, 3))
    with pytest.raises(ConfigError):
        models.build(name, 3, image_shape=(1, 1, 3))


def test_convolutions_of_one_pixel_are_refused():
    for name in ("8c-3fc", "res-8c^2-gap-3fc"):
        with pytest.raises(ConfigError, match="of .1, 1, 3.: a 3x3 convolution needs more than one pixel"):
            measure(name, 3, (1, 1, 3))
    measure("8c1x1-3fc", 3, (1, 1, 3))
    measure("8c-3fc", 3, (1, 2, 3))


def test_the_memory_of_a_training():
    """Adam keeps two numbers per weight, next to the weight and its gradient; SGD keeps one."""
    assert Size(1000, 0).training_bytes(32, "adam") == 16_000
    assert Size(1000, 0).training_bytes(32, "sgd") == 12_000
    assert Size(0, 100).training_bytes(32, "adam") == 6400
