"""A trained network as a classifier: uint8 images in, probabilities out."""

from collections.abc import Sequence

import keras
from keras import layers, ops

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
