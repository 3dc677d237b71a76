"""The blocks that networks are made of: plain functions of a tensor, named as a reader would name them."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from kapp.models.convolution import Conv2D
from kapp.models.dropout import Dropout
from kapp.models.normalisation import BatchNormalization
from kapp.models.rectification import ReLU

Tensor = Any  # a keras.KerasTensor
# PyTorch's defaults, which paper D trained with; Keras's 0.99 needs hundreds of steps to warm up.
NORMALISATION: dict[str, Any] = {"momentum": 0.9, "epsilon": 1e-5}


def seeds_of(seed: int) -> Iterator[int]:
    """A stream of independent seeds, one for each layer that draws."""
    state = np.random.default_rng(seed)
    while True:
        yield int(state.integers(2**31))


def he_normal(seeds: Iterator[int]) -> keras.Initializer:
    """He et al. 2015, equation 10."""
    return keras.initializers.HeNormal(seed=next(seeds))


def activated(x: Tensor, name: str, normalised: bool = True) -> Tensor:
    """ReLU, after batch normalisation (paper D, section 4) or without it (paper A)."""
    if normalised:
        x = BatchNormalization(**NORMALISATION, before_relu=True, name=f"{name}_bn")(x)
    return ReLU(name=f"{name}_relu")(x)


def convolution(
    x: Tensor,
    filters: int,
    seeds: Iterator[int],
    name: str,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int | None = None,
    biased: bool = False,
    **settings: Any,
) -> Tensor:
    """A convolution, padded by `padding` pixels on each side (None: as many as keep the map's size at stride
    1); `biased` where no normalisation follows, which has a bias of its own."""
    if padding:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad", **settings)(x)
    return Conv2D(
        filters,
        kernel,
        stride,
        padding="same" if padding is None else "valid",
        use_bias=biased,
        kernel_initializer=he_normal(seeds),
        name=name,
        **settings,
    )(x)


def dense(
    x: Tensor, units: int, seeds: Iterator[int], name: str, *, biased: bool = False, **settings: Any
) -> Tensor:
    """A fully connected layer; `biased` where no normalisation follows, which has a bias of its own."""
    initialiser = he_normal(seeds)
    return layers.Dense(units, use_bias=biased, kernel_initializer=initialiser, name=name, **settings)(x)


def dropout(x: Tensor, rate: float, seeds: Iterator[int], name: str, *, channels: bool = False) -> Tensor:
    """Dropout of single values or, with `channels`, of whole maps."""
    layer = layers.SpatialDropout2D if channels else Dropout
    return layer(rate, seed=next(seeds), name=name)(x)


def residual_block(x: Tensor, filters: int, seeds: Iterator[int], name: str, *, stride: int = 1) -> Tensor:
    """Two convolutions and the skip over them (He et al. 2016, figure 2); a 1x1 projection on the skip
    where the shape changes (their option B)."""
    skip = x
    if stride != 1 or x.shape[-1] != filters:
        skip = convolution(x, filters, seeds, f"{name}_skip", kernel=1, stride=stride)
        skip = BatchNormalization(**NORMALISATION, name=f"{name}_skip_bn")(skip)
    x = convolution(x, filters, seeds, f"{name}_conv1", stride=stride)
    x = activated(x, f"{name}_conv1")
    x = convolution(x, filters, seeds, f"{name}_conv2")
    x = BatchNormalization(**NORMALISATION, name=f"{name}_conv2_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, skip]))
