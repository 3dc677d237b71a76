"""Steps -> functional Keras models."""

from collections.abc import Iterator, Sequence
from itertools import count

import keras
import numpy as np
from keras import layers

from kapp.errors import WrongValue
from kapp.models.layers import convolution, dense, he_normal, normalised_relu, residual_block
from kapp.models.notation import (
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    MaxPooling,
    Step,
    last_counted,
)


def network(
    steps: Sequence[Step],
    *,
    image_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    residual: bool = False,
    seed: int = 0,
    name: str = "network",
) -> keras.Model:
    """The functional model of `steps`: raw images (n, height, width, channels), 0 to 255, to logits
    (n, classes), float32 under every dtype policy.

    Args:
        steps: from `notation.parse`; batch normalisation and ReLU follow each but the last counted.
        mean, std: of the training images, per channel, in units of 0 to 255.
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
        x = _residual(x, hidden, seeds) if residual else _chain(x, hidden, seeds)
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


def _chain(x, steps: Sequence[Step], seeds: Iterator[int]):
    """The steps one after another."""
    number = {kind: count(1) for kind in (Convolution, Dense, MaxPooling, Dropout)}
    for step in steps:
        match step:
            case Convolution(filters, kernel, stride, padded):
                name = f"conv{next(number[Convolution])}"
                x = convolution(x, filters, seeds, name, kernel=kernel, stride=stride, padded=padded)
                x = normalised_relu(x, name)
            case Dense(units):
                name = f"dense{next(number[Dense])}"
                x = normalised_relu(dense(_flat(x), units, seeds, name), name)
            case MaxPooling(size, stride):
                # 2x2 windows tile the map; larger ones overlap and are padded to cover its edge.
                padding = "valid" if size == stride else "same"
                x = layers.MaxPooling2D(size, stride, padding, name=f"pool{next(number[MaxPooling])}")(x)
            case Dropout(rate):
                name = f"dropout{next(number[Dropout])}"
                x = layers.Dropout(rate, seed=next(seeds), name=name)(x)
            case GlobalAveragePooling():
                x = layers.GlobalAveragePooling2D(name="average")(x)
    return x


def _residual(x, steps: Sequence[Step], seeds: Iterator[int]):
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
    return _chain(x, rest, seeds)


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


def _flat(x):
    return layers.Flatten(name="flatten")(x) if len(x.shape) > 2 else x


def _seeds(seed: int) -> Iterator[int]:
    """A stream of independent seeds, one for each layer that draws."""
    state = np.random.default_rng(seed)
    while True:
        yield int(state.integers(2**31))
