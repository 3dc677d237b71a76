"""Steps -> functional Keras models."""

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import keras
import numpy as np
from keras import layers

from kapp.errors import WrongValue
from kapp.models.layers import activated, convolution, dense, he_normal, residual_block
from kapp.models.notation import (
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    Pooling,
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
    seeds = _seeds(seed)
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


def flops(model: keras.Model) -> int:
    """Floating-point operations of one image's forward pass: convolutions and matrix products, a
    multiplication and an addition counted as two."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            height, width = layer.output.shape[1:3]
            total += 2 * int(np.prod(layer.kernel.shape)) * height * width
        elif isinstance(layer, layers.Dense):
            total += 2 * int(np.prod(layer.kernel.shape))
    return total


def _chain(x, steps: Sequence[Step], seeds: Iterator[int], normalised: bool, pooling_norm: float):
    """The steps one after another."""
    number = {kind: count(1) for kind in (Convolution, Dense, Pooling, Dropout)}
    for step in steps:
        match step:
            case Convolution(filters, kernel, stride, padded):
                name = f"conv{next(number[Convolution])}"
                how: dict[str, Any] = {"kernel": kernel, "stride": stride, "padded": padded}
                x = convolution(x, filters, seeds, name, **how, biased=not normalised)
                x = activated(x, name, normalised)
            case Dense(units):
                name = f"dense{next(number[Dense])}"
                x = activated(dense(_flat(x), units, seeds, name, biased=not normalised), name, normalised)
            case Pooling(size, stride):
                x = _pooled(x, size, stride, pooling_norm, name=f"pool{next(number[Pooling])}")
            case Dropout(rate):
                name = f"dropout{next(number[Dropout])}"
                x = layers.Dropout(rate, seed=next(seeds), name=name)(x)
            case GlobalAveragePooling():
                x = layers.GlobalAveragePooling2D(name="average")(x)
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
    settings = {"kernel_initializer": he_normal(seeds), "dtype": "float32", "name": "logits"}
    if isinstance(final, Dense):
        x = layers.Dense(final.units, **settings)(_flat(x))
    elif isinstance(final, Convolution):
        padding = "same" if final.padded else "valid"
        x = layers.Conv2D(final.filters, final.kernel, final.stride, padding, **settings)(x)
    for step in rest:
        if not isinstance(step, GlobalAveragePooling):
            raise WrongValue(f"only gap may follow the classes, not {step}.")
        x = layers.GlobalAveragePooling2D(dtype="float32", name="average")(x)
    return x


def _pooled(x, size: int, stride: int, norm: float, name: str):
    # 2x2 windows tile the map; larger ones overlap and are padded to cover its edge.
    padding = "valid" if size == stride else "same"
    if norm == math.inf:
        return layers.MaxPooling2D(size, stride, padding, name=name)(x)
    return PNormPooling2D(size, stride, norm, padding, name=name)(x)


def _flat(x):
    return layers.Flatten(name="flatten")(x) if len(x.shape) > 2 else x


def _seeds(seed: int) -> Iterator[int]:
    """A stream of independent seeds, one for each layer that draws."""
    state = np.random.default_rng(seed)
    while True:
        yield int(state.integers(2**31))
