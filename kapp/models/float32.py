"""Networks in float32: the form in which they are scored and exported, whatever they were trained in."""

import keras
from keras import layers, ops

from kapp.keras_internals import flatten_layers
from kapp.layers.activation import Activation


def is_float32(network: keras.Model) -> bool:
    """Returns whether no layer of `network` computes in a shorter type."""
    # A model has a policy, too, but computes nothing itself.
    computing = [layer for layer in flatten_layers(network) if not isinstance(layer, keras.Model)]
    return not any(layer.compute_dtype in ("bfloat16", "float16") for layer in computing)


def float32_copy(network: keras.Model) -> keras.Model:
    """Returns a copy of `network` that computes in float32, as every runtime can, with its own weights."""
    copy = keras.models.clone_model(network, clone_function=_clone_in_float32, recursive=True)
    copy.set_weights(network.get_weights())
    for layer in flatten_layers(copy):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # of an adapted layer: computed from the weights that were just set
            # As NumPy arrays they become constants; a tensor would become an input of the ONNX graph.
            layer.mean, layer.variance = map(ops.convert_to_numpy, (layer.mean, layer.variance))
    return copy


def _clone_in_float32(layer: keras.Operation) -> keras.Operation:
    config = layer.get_config()
    if isinstance(layer, keras.Layer):  # an operation, as x / 255, has no dtype
        config["dtype"] = "float32"
    if type(layer) is keras.layers.Activation:
        return Activation.from_config(config)  # its GELU can be exported to ONNX
    return type(layer).from_config(config)
