"""Steps -> functional Keras models."""

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import keras
import numpy as np
from keras import layers

from kapp.errors import WrongValue
from kapp.models.layers import activated, convolution, dense, dropout, residual_block, seeds_of
from kapp.models.max_pooling import MaxPooling2D
from kapp.models.notation import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Step,
    last_counted,
)
from kapp.models.pooling import PNormPooling2D


def network(
    steps: Sequence[Step],
    *,
    image_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    residual: bool = False,
    normalised: bool = True,
    pooling_norm: float = math.inf,
    seed: int = 0,
    name: str = "network",
) -> keras.Model:
    """The functional model of `steps`: raw images (n, height, width, channels), 0 to 255, to logits
    (n, classes), float32 under every dtype policy.

    Args:
        steps: from `notation.parse`; ReLU follows each counted one but the last.
        mean, std: of the training images, per channel, in units of 0 to 255.
        normalised: batch normalisation before each ReLU; without it, a bias in each layer.
        pooling_norm: p of the pooling (equation 1 of Springenberg et al. 2014); infinity is max pooling.
        residual: skip over each two convolutions; a change of filters halves the map.
        seed: of the initial weights and of dropout.

    Raises:
        WrongValue: the steps don't fit the image (pooled away), or don't end in (n, classes).
    """
    seeds = seeds_of(seed)
    images = keras.Input(image_shape, name="images")
    variance = [float(s) ** 2 for s in std]
    x = layers.Normalization(mean=[float(m) for m in mean], variance=variance, name="normalise")(images)
    last = last_counted(steps)
    hidden, final = steps[:last], steps[last:]
    try:
        build = _residual if residual else _chain
        x = build(x, hidden, seeds, normalised, pooling_norm)
        logits = _logits(x, final, seeds)
    except ValueError as error:  # Keras's own words on a shape that a layer can't take
        raise WrongValue(f"{name}: the layers don't fit images of {image_shape}: {error}") from error
    if len(logits.shape) != 2:
        raise WrongValue(f"{name}: ends in a map {logits.shape[1:]}, not in classes. Append gap or 10fc.")
    return keras.Model(images, logits, name=name)


def flops(model: keras.Model) -> int | None:
    """Floating-point operations of one image's forward pass: convolutions and matrix products, a
    multiplication and an addition counted as two. None for a network that multiplies matrices in other
    layers, too, or that isn't functional: they can't be counted."""
    graph = getattr(model, "_functional", model)  # of a Sequential
    if not hasattr(graph, "_nodes_by_depth"):
        return None
    total = 0
    # The model's own nodes: a layer may be part of other models, too.
    for node in (node for nodes in graph._nodes_by_depth.values() for node in nodes):
        layer = node.operation
        if isinstance(layer, keras.Model):
            within = flops(layer)
            if within is None:
                return None
            total += within
        elif isinstance(layer, layers.Conv2D):
            height, width = node.outputs[0].shape[1:3]
            total += 2 * int(np.prod(layer.kernel.shape)) * height * width
        elif isinstance(layer, layers.Dense):
            total += 2 * int(np.prod(layer.kernel.shape))
        elif any(len(weight.shape) > 1 for weight in getattr(layer, "trainable_weights", ())):
            return None
    return total


def _chain(x, steps: Sequence[Step], seeds: Iterator[int], normalised: bool, pooling_norm: float):
    """The steps one after another."""
    number = {kind: count(1) for kind in (Convolution, Dense, Pooling, AveragePooling, Dropout)}
    for step in steps:
        match step:
            case Convolution(filters, kernel, stride, padding):
                name = f"conv{next(number[Convolution])}"
                how: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
                x = convolution(x, filters, seeds, name, **how, biased=not normalised)
                x = activated(x, name, normalised)
            case Dense(units):
                name = f"dense{next(number[Dense])}"
                x = activated(dense(_flat(x), units, seeds, name, biased=not normalised), name, normalised)
            case Pooling():
                x = _pooled(x, step, pooling_norm, name=f"pool{next(number[Pooling])}")
            case AveragePooling(size):
                x = layers.AveragePooling2D(size, name=f"average{next(number[AveragePooling])}")(x)
            case Dropout(rate, channels):
                x = dropout(x, rate, seeds, f"dropout{next(number[Dropout])}", channels=channels)
            case GlobalAveragePooling():
                x = layers.GlobalAveragePooling2D(name="average")(x)
            case Relu():
                raise WrongValue("relu goes without saying: write it after the classes only.")
    return x


def _residual(x, steps: Sequence[Step], seeds: Iterator[int], normalised: bool, pooling_norm: float):
    """Pairs of convolutions with a skip over each, then whatever follows them."""
    convolutions = [step for step in steps if isinstance(step, Convolution)]
    rest = steps[len(convolutions) :]
    if len(convolutions) % 2 or any(isinstance(step, Convolution) for step in rest):
        raise WrongValue("a residual network starts with an even number of convolutions, in pairs.")
    filters = None
    for i, step in enumerate(convolutions[::2], start=1):
        stride = 2 if filters not in (None, step.filters) else 1
        x = residual_block(x, step.filters, seeds, f"block{i}", stride=stride)
        filters = step.filters
    return _chain(x, rest, seeds, normalised, pooling_norm)


def _logits(x, steps: Sequence[Step], seeds: Iterator[int]):
    """The last counted step, bare and in float32, and what follows it."""
    final, *rest = steps
    exact: dict[str, Any] = {"dtype": "float32"}
    if isinstance(final, Dense):
        x = dense(_flat(x), final.units, seeds, "logits", biased=True, **exact)
    elif isinstance(final, Convolution):
        how: dict[str, Any] = {"kernel": final.kernel, "stride": final.stride, "padding": final.padding}
        x = convolution(x, final.filters, seeds, "logits", biased=True, **how, **exact)
    for step in rest:
        match step:
            case GlobalAveragePooling():
                x = layers.GlobalAveragePooling2D(name="average", **exact)(x)
            case AveragePooling(size):
                x = layers.AveragePooling2D(size, name="average", **exact)(x)
            case Relu():
                x = layers.ReLU(name="logits_relu", **exact)(x)
            case _:
                raise WrongValue(f"only gap, ap and relu may follow the classes, not {step}.")
    one_place = len(x.shape) == 4 and tuple(x.shape[1:3]) == (1, 1)
    return layers.Flatten(name="flatten_logits", **exact)(x) if one_place else x


def _pooled(x, step: Pooling, norm: float, name: str):
    # 2x2 windows tile the map; larger ones overlap and are padded to cover its edge.
    padding = "same" if step.padded and step.size != step.stride else "valid"
    if norm == math.inf:
        return MaxPooling2D(step.size, step.stride, padding, name=name)(x)
    return PNormPooling2D(step.size, step.stride, norm, padding, name=name)(x)


def _flat(x):
    return layers.Flatten(name="flatten")(x) if len(x.shape) > 2 else x
