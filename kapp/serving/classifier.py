"""A network -> a classifier: uint8 images (n, height, width, channels) to probabilities (n, classes)."""

import keras
import numpy as np
from keras import layers, ops

from kapp.errors import WrongValue
from kapp.models.saved import answers_in_probabilities


def classifier(network: keras.Model) -> keras.Model:
    """`network`, which shares its weights, with the cast before it and, where it has none, the softmax after.

    Raises:
        WrongValue: it doesn't map images of one size to (n, classes).
    """
    check(network)
    images = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    answers = ops.cast(network(ops.cast(images, "float32")), "float32")
    if not answers_in_probabilities(network):
        answers = layers.Softmax(dtype="float32", name="probabilities")(answers)
    return keras.Model(images, answers, name=network.name)


def check(network: keras.Model) -> None:
    """Raises:
    WrongValue: `network` doesn't map images of one size to (n, classes).
    """
    takes, gives = (getattr(network, name, None) for name in ("input_shape", "output_shape"))
    one = isinstance(getattr(network, "output", None), keras.KerasTensor)  # and no dictionary of them
    if not (one and isinstance(takes, tuple) and len(takes) == 4 and len(gives or ()) == 2):
        raise WrongValue(f"{network.name} isn't a functional model that maps images to (n, classes).")
    if None in takes[1:]:
        raise WrongValue(
            f"{network.name} takes images of any size, {takes[1:]}. Give it one: "
            "keras.Model(x := keras.Input((32, 32, 3)), network(x)).save('mine.keras')."
        )


def portable(network: keras.Model) -> keras.Model:
    """A copy of `network`, with weights of its own, that computes in float32, as every runtime can."""
    copy = keras.models.clone_model(network, clone_function=_in_float32, recursive=True)
    copy.set_weights(network.get_weights())
    for layer in copy._flatten_layers():
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # of an adapted one: from the weights that have just been set
            # As NumPy arrays they become constants; a tensor would become an input of the ONNX graph.
            layer.mean, layer.variance = (np.array(moment) for moment in (layer.mean, layer.variance))
    return copy


def _in_float32(layer: keras.Operation) -> keras.Operation:
    dtype = {"dtype": "float32"} if isinstance(layer, keras.Layer) else {}  # an operation, x / 255, has none
    return type(layer).from_config({**layer.get_config(), **dtype})
