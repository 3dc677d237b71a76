"""Copies of networks, with weights of their own."""

import keras

from kapp.keras_internals import flatten_layers


def copy_network(network: keras.Model) -> keras.Model:
    """Returns a copy of a functional or Sequential model, of its layers and of the values of its weights."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    for layer in flatten_layers(copy):
        if hasattr(layer, "finalize_state"):  # an adapted Normalization derives its constants here
            layer.finalize_state()
    return copy


def averaged_copy(network: keras.Model) -> keras.Model:
    """Returns a copy whose weights no optimizer changes, but whose layers are trainable in a file of it."""
    copy = copy_network(network)
    for weight in copy.weights:
        weight.trainable = False
    return copy
