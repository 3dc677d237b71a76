"""Max pooling without memory reordering on PyTorch."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.keras_internals import saved_as_keras
from kapp.layers.compiled_ops import inductor_jit, should_compile, upstream_gradient


@saved_as_keras
class MaxPooling2D(keras.layers.MaxPooling2D):
    """Same results and saved format as `keras.layers.MaxPooling2D`; channels stay last in memory on PyTorch.

    There, Keras returns them first in memory, and the layers around it copy them back and forth.

    Example:

    >>> MaxPooling2D(2)(ops.ones((2, 8, 8, 3))).shape == (2, 4, 4, 3)
    True
    """

    def call(self, inputs: Any) -> Any:
        is_plain = self.padding == "valid" and self.data_format == "channels_last"
        if keras.backend.backend() != "torch" or not is_plain:
            return super().call(inputs)
        size, strides = self.pool_size, self.strides
        tiles = size == strides == (2, 2) and inputs.shape[1] % 2 == inputs.shape[2] % 2 == 0
        if tiles and should_compile(inputs):
            return max_pool_tiles(inputs)
        from torch.nn.functional import max_pool2d

        return max_pool2d(inputs.movedim(-1, 1), size, strides).movedim(1, -1)


@ops.custom_gradient
def max_pool_tiles(x: Any) -> tuple[Any, Callable]:
    """Returns the maximum of each 2x2 tile; the first of equal values receives the gradient.

    Args:
        x: (n, height, width, channels), height and width even.
    """
    maximum, position = _max_and_position(x)

    def gradient(*args: Any, upstream: Any = None) -> Any:
        # Must not use `maximum`: it refers to this function, and PyTorch would free neither.
        return _max_gradient(upstream_gradient(args, upstream), position)

    return maximum, gradient


@inductor_jit
def _max_and_position(x: Any) -> tuple[Any, Any]:
    """The maximum of each tile, and its first position in the tile: 0 to 3, row by row."""
    tile = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    maximum = functools.reduce(ops.maximum, tile)
    position = ops.full_like(maximum, 3)  # in the dtype of x: compiled code is faster with one dtype
    for i in (2, 1, 0):
        position = ops.where(tile[i] == maximum, ops.full_like(position, i), position)
    return maximum, position


@inductor_jit
def _max_gradient(dy: Any, position: Any) -> Any:
    n, height, width, channels = dy.shape
    positions = ops.reshape(ops.arange(4, dtype=position.dtype), (1, 1, 2, 1, 2, 1))
    dy, position = (ops.reshape(x, (n, height, 1, width, 1, channels)) for x in (dy, position))
    dx = ops.where(position == positions, dy, ops.zeros_like(dy))
    return ops.reshape(dx, (n, 2 * height, 2 * width, channels))
