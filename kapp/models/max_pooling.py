"""Max pooling: Keras's own layer, its maps left where they are."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.models import loops
from kapp.models.loops import upstream_of, whole


class MaxPooling2D(keras.layers.MaxPooling2D):
    """Keras's layer, and Keras's own in a file. On PyTorch Keras returns maps with their channels first in
    memory, and every layer around it copies them back and forth."""

    def call(self, inputs: Any) -> Any:
        if keras.backend.backend() != "torch" or self.padding != "valid":
            return super().call(inputs)
        size, strides = self.pool_size, self.strides
        tiled = size == strides == (2, 2) and inputs.shape[1] % 2 == inputs.shape[2] % 2 == 0
        if tiled and loops.pay(inputs):
            return tiles_pooled(inputs)
        from torch.nn.functional import max_pool2d

        return max_pool2d(inputs.movedim(-1, 1), size, strides).movedim(1, -1)


MaxPooling2D.__module__ = "keras.layers"  # by that name a file finds Keras's


@ops.custom_gradient
def tiles_pooled(x: Any) -> tuple[Any, Callable]:
    """The maximum of each 2x2 tile of maps (n, height, width, channels) of even sides; its gradient goes to
    the first of equals."""
    greatest, place = _greatest(x)

    def gradient(*given: Any, upstream: Any = None) -> Any:
        # Not of the greatest: those hold this function, and PyTorch would keep both until Python collects.
        return _spread(upstream_of(given, upstream), place)

    return greatest, gradient


@whole
def _greatest(x: Any) -> tuple[Any, Any]:
    """The greatest of each tile, and its place in it: 0 to 3, row by row; of equals the first."""
    tile = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    greatest = functools.reduce(ops.maximum, tile)
    place = ops.full_like(greatest, 3)  # small integers in the maps' own dtype: compilers mix none
    for i in (2, 1, 0):
        place = ops.where(tile[i] == greatest, ops.full_like(place, i), place)
    return greatest, place


@whole
def _spread(dy: Any, place: Any) -> Any:
    n, height, width, channels = dy.shape
    places = ops.reshape(ops.arange(4, dtype=place.dtype), (1, 1, 2, 1, 2, 1))
    dy, place = (ops.reshape(maps, (n, height, 1, width, 1, channels)) for maps in (dy, place))
    spread = ops.where(place == places, dy, ops.zeros_like(dy))
    return ops.reshape(spread, (n, 2 * height, 2 * width, channels))
