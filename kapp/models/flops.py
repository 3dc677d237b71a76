"""Floating-point operations of a model."""

import math

import keras
from keras import layers

from kapp.keras_internals import nodes


def count_flops(model: keras.Model) -> int | None:
    """Returns the floating-point operations of one image's forward pass.

    Counts convolutions and matrix products, with a multiplication and an addition as two operations.

    Returns:
        None if the model isn't functional or Sequential, takes images of any size, or multiplies matrices in
        other layers than `Conv2D` and `Dense`.

    Example:

    >>> count_flops(keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same")]))
    13824
    """
    calls = nodes(model)
    if calls is None:
        return None
    total = 0
    for call in calls:
        layer = call.operation
        if isinstance(layer, keras.Model):
            flops = count_flops(layer)
            if flops is None:
                return None
            total += flops
        elif isinstance(layer, layers.Conv2D | layers.Dense):
            # The kernel is applied at each place of the output: of a Dense layer, to the last axis.
            places = call.outputs[0].shape[1 : 3 if isinstance(layer, layers.Conv2D) else -1]
            if None in places:
                return None
            total += 2 * math.prod(layer.kernel.shape) * math.prod(places)
        elif any(len(weight.shape) > 1 for weight in getattr(layer, "trainable_weights", ())):
            return None
    return total
