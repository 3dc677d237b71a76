"""The blocks of the networks: functions of a tensor, which add layers to it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import KerasTensor, layers

from kapp.layers.batch_normalization import BatchNormalization
from kapp.layers.convolution import Conv2D
from kapp.layers.dropout import Dropout
from kapp.layers.max_pooling import MaxPooling2D
from kapp.layers.p_norm_pooling import PNormPooling2D
from kapp.layers.relu import ReLU
from kapp.models.initializers import HeNormal

# PyTorch's defaults, with which Ratusznik et al. train; Keras's momentum of 0.99 adapts in hundreds of steps.
BATCH_NORM: dict[str, Any] = {"momentum": 0.9, "epsilon": 1e-5}


def seed_stream(seed: int) -> Iterator[int]:
    """Yields independent seeds, one for each layer with random numbers; the same in all versions of NumPy."""
    generator = np.random.Philox(np.random.SeedSequence([seed]))
    while True:
        yield int(generator.random_raw() >> 33)  # 31 bits: what every backend's generator takes


def conv(
    x: KerasTensor,
    filters: int,
    seeds: Iterator[int],
    name: str,
    kernel_size: int = 3,
    strides: int = 1,
    padding: int | None = None,
    use_bias: bool = False,
    **kwargs: Any,
) -> KerasTensor:
    """Convolution.

    Args:
        x: (n, height, width, channels).
        filters: number of output channels.
        seeds: from `seed_stream`.
        name: of the layer.
        kernel_size: height and width of the kernel, in pixels.
        strides: in pixels.
        padding: pixels on each side; None for as many as keep the map's size at stride 1.
        use_bias: whether to add a bias; batch normalization after the layer makes it redundant.
        **kwargs: as for `keras.layers.Layer`.
    """
    if padding:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad", **kwargs)(x)
    return Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same" if padding is None else "valid",
        use_bias=use_bias,
        kernel_initializer=HeNormal(seed=next(seeds)),
        name=name,
        **kwargs,
    )(x)


def dense(
    x: KerasTensor, units: int, seeds: Iterator[int], name: str, use_bias: bool = False, **kwargs: Any
) -> KerasTensor:
    """Fully connected layer; `x` is flattened if it has more than two axes."""
    if len(x.shape) > 2:
        x = layers.Flatten(name="flatten")(x)
    initializer = HeNormal(seed=next(seeds))
    return layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, name=name, **kwargs)(x)


def batch_norm(x: KerasTensor, name: str) -> KerasTensor:
    """Batch normalization of the layer called `name`."""
    return BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)


def batch_norm_relu(x: KerasTensor, name: str) -> KerasTensor:
    """Batch normalization and ReLU of the layer called `name` (Ratusznik et al., section 4)."""
    layer = BatchNormalization(**BATCH_NORM, fuse_relu=True, name=f"{name}_bn")
    return ReLU(batch_norm=layer, name=f"{name}_relu")(layer(x))


def relu(x: KerasTensor, name: str) -> KerasTensor:
    """ReLU of the layer called `name`, without batch normalization (Hu 2018)."""
    return ReLU(name=f"{name}_relu")(x)


def pool(x: KerasTensor, pool_size: int, strides: int, padded: bool, norm: float, name: str) -> KerasTensor:
    """Pooling by a p-norm, or by the maximum if `norm` is infinity.

    Args:
        x: (n, height, width, channels).
        pool_size: height and width of the window, in pixels.
        strides: in pixels.
        padded: whether overlapping windows are padded to cover the edge of the map.
        norm: p, at least 1.
        name: of the layer.
    """
    padding = "same" if padded and pool_size != strides else "valid"
    if norm == float("inf"):
        return MaxPooling2D(pool_size, strides, padding, name=name)(x)
    return PNormPooling2D(pool_size, strides, norm, padding, name=name)(x)


def dropout(
    x: KerasTensor, rate: float, seeds: Iterator[int], name: str, channels: bool = False
) -> KerasTensor:
    """Dropout of single values or, with `channels`, of whole channels."""
    layer_class = layers.SpatialDropout2D if channels else Dropout
    return layer_class(rate, seed=next(seeds), name=name)(x)


def residual_block(
    x: KerasTensor, filters: int, seeds: Iterator[int], name: str, strides: int = 1
) -> KerasTensor:
    """Two convolutions with a skip connection (He et al. 2016, figure 2).

    If the shape changes, the skip connection is a 1x1 projection (their option B).
    """
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = conv(x, filters, seeds, f"{name}_skip", kernel_size=1, strides=strides)
        shortcut = batch_norm(shortcut, f"{name}_skip")
    x = batch_norm_relu(conv(x, filters, seeds, f"{name}_conv1", strides=strides), f"{name}_conv1")
    x = batch_norm(conv(x, filters, seeds, f"{name}_conv2"), f"{name}_conv2")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))
