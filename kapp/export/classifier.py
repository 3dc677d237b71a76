"""A trained network as a classifier: uint8 images in, probabilities out."""

import keras
import numpy as np
from keras import layers, ops

from kapp.errors import ConfigError
from kapp.keras_internals import flatten_layers
from kapp.models.keras_file import is_classifier, outputs_probabilities


def build_classifier(network: keras.Model) -> keras.Model:
    """A model from uint8 images (n, height, width, channels) to float32 probabilities (n, classes).

    It shares its weights with `network`. A softmax is added unless `network` ends in one.

    Raises:
        ConfigError: `network` doesn't map images of one size to (n, classes).

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(10)])
    >>> build_classifier(network).output_shape
    (None, 10)
    """
    check_network(network)
    images = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    outputs = ops.cast(network(ops.cast(images, "float32")), "float32")
    if not outputs_probabilities(network):
        outputs = layers.Softmax(dtype="float32", name="probabilities")(outputs)
    return keras.Model(images, outputs, name=network.name)


def check_network(network: keras.Model) -> None:
    """Check that `network` maps images of one size to (n, classes).

    Raises:
        ConfigError: it doesn't.
    """
    if not is_classifier(network):
        raise ConfigError(f"{network.name} isn't a functional model that maps images to (n, classes).")
    if None in network.input_shape[1:]:
        raise ConfigError(
            f"{network.name} takes images of any size, {network.input_shape[1:]}. Fix the size: "
            "keras.Model(x := keras.Input((32, 32, 3)), network(x)).save('mine.keras')."
        )


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
