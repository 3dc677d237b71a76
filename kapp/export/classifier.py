"""A trained network as a classifier: uint8 images in, probabilities out."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from kapp.keras_internals import flatten_layers
from kapp.models.keras_file import check_classifier, outputs_probabilities


def build_classifier(network: keras.Model, image_shape: Sequence[int | None] | None = None) -> keras.Model:
    """A model from uint8 images (n, height, width, channels) to float32 probabilities (n, classes).

    It shares its weights with `network`. A softmax is added unless `network` ends in one.

    Args:
        network: any model that `check_classifier` accepts.
        image_shape: (height, width, channels), where `network` takes images of any size (None: any size).

    Raises:
        ConfigError: `network` is no classifier.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(10)])
    >>> build_classifier(network).output_shape
    (None, 10)
    """
    check_classifier(network, network.name)
    images = keras.Input(image_shape or network.input_shape[1:], dtype="uint8", name="images")
    outputs = ops.cast(network(ops.cast(images, "float32")), "float32")
    if not outputs_probabilities(network):
        outputs = layers.Softmax(dtype="float32", name="probabilities")(outputs)
    return keras.Model(images, outputs, name=network.name)


def float32_copy(network: keras.Model) -> keras.Model:
    """A copy of `network`, with weights of its own, that computes in float32, as every runtime can."""
    copy = keras.models.clone_model(network, clone_function=_clone_in_float32, recursive=True)
    copy.set_weights(network.get_weights())
    for layer in flatten_layers(copy):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # of an adapted layer: computed from the weights that were just set
            # As NumPy arrays they become constants; a tensor would become an input of the ONNX graph.
            layer.mean, layer.variance = np.array(layer.mean), np.array(layer.variance)
    return copy


def _clone_in_float32(layer: keras.Operation) -> keras.Operation:
    config = layer.get_config()
    if isinstance(layer, keras.Layer):  # an operation, as x / 255, has no dtype
        config["dtype"] = "float32"
    return type(layer).from_config(config)
