"""Max pooling: Keras's own layer, its maps left where they are."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.models import loops
from kapp.models.loops import compiled, upstream_of


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

    def gradient(*given: Any, upstream: Any = None) -> Any:
        # Not of the pooled maps: PyTorch would hold those, which hold this function, for ever.
        return compiled(_spread)(upstream_of(given, upstream), x)

    return compiled(_greatest)(x), gradient


def _greatest(x: Any) -> Any:
    (a, b), (c, d) = _tiles(x)
    return ops.maximum(ops.maximum(a, b), ops.maximum(c, d))


def _spread(dy: Any, x: Any) -> Any:
    pooled, nothing = _greatest(x), ops.zeros_like(dy)
    taken = pooled != pooled  # nowhere
    rows = []
    for row in _tiles(x):
        columns = []
        for place in row:
            first = ops.logical_and(place == pooled, ops.logical_not(taken))
            taken = ops.logical_or(taken, first)
            columns.append(ops.where(first, dy, nothing))
        rows.append(ops.stack(columns, 3))
    return ops.reshape(ops.stack(rows, 2), x.shape)


def _tiles(x: Any) -> list[list[Any]]:
    """The values in each place of the tiles: two rows of two maps."""
    return [[x[:, i::2, j::2] for j in range(2)] for i in range(2)]
