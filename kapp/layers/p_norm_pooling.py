"""Pooling by a p-norm."""

import math
from typing import Any

import keras
from keras import ops

from kapp.errors import ConfigError


@keras.saving.register_keras_serializable("kapp")
class PNormPooling2D(keras.layers.Layer):
    """Pools each channel by a p-norm: s = (sum over the window of |f|^p)^(1/p).

    Equation 1 of Springenberg et al. 2014. p = infinity is max pooling of |f|; p = 1 is average pooling of
    |f|, times the number of values in a window. The values are divided by the window's maximum first, so
    that no power overflows or underflows. The gradient is 0 for a window of zeros.

    Args:
        pool_size: height and width of the window, in pixels.
        strides: step between windows, in pixels; `pool_size` by default.
        p: order of the norm, at least 1; math.inf for the maximum.
        padding: "valid", or "same" with zeros, which add nothing to the sum.
        **kwargs: as for `keras.layers.Layer`.

    Input shape: (n, height, width, channels).

    Output shape: (n, pooled_height, pooled_width, channels).

    Raises:
        ConfigError: p, the size or the strides are below 1, or the padding is unknown.

    Example:

    >>> images = keras.ops.reshape([1.0, 2.0, 2.0, 4.0], (1, 2, 2, 1))
    >>> [round(float(PNormPooling2D(2, p=p)(images)[0, 0, 0, 0])) for p in (1, 2, math.inf)]
    [9, 5, 4]
    """

    def __init__(
        self,
        pool_size: int = 2,
        strides: int | None = None,
        p: float = math.inf,
        padding: str = "valid",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        p = float(p)  # from "inf" in a file, as JSON has no infinity
        if not p >= 1:
            raise ConfigError(f"p is {p}: it must be at least 1 (inf for max pooling).")
        if pool_size < 1 or (strides is not None and strides < 1):
            raise ConfigError(f"pool_size is {pool_size}, strides {strides}: they must be at least 1.")
        if padding not in ("valid", "same"):
            raise ConfigError(f"padding is {padding!r}: valid or same.")
        self.pool_size, self.strides = pool_size, strides or pool_size
        self.p, self.padding = p, padding

    def call(self, inputs: Any) -> Any:
        x = ops.absolute(inputs)
        maximum = ops.max_pool(x, self.pool_size, self.strides, self.padding)
        if self.p == math.inf:
            return maximum
        # The p-norm is homogeneous: s = m (sum (|f| / m)^p)^(1/p) for any m, whose gradient cancels.
        scale = ops.stop_gradient(ops.where(maximum > 0, maximum, ops.ones_like(maximum)))
        total = ops.zeros_like(maximum)
        for values in self._window_values(x, maximum.shape[1:3]):
            total = total + ops.power(values / scale, self.p)
        empty = total == 0
        norm = ops.power(ops.where(empty, ops.ones_like(total), total), 1 / self.p)
        return ops.where(empty, ops.zeros_like(norm), norm) * scale

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        lost = 0 if self.padding == "same" else self.pool_size - 1
        sides = [None if n is None else -(-(n - lost) // self.strides) for n in input_shape[1:3]]
        return (input_shape[0], *sides, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        config = {"pool_size": self.pool_size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **config, "p": "inf" if self.p == math.inf else self.p}

    def _window_values(self, x: Any, pooled: tuple[int, int]) -> list[Any]:
        """The values at each position of the window, one tensor per position."""
        spans = [(n - 1) * self.strides + 1 for n in pooled]
        pads = [max(0, span + self.pool_size - 1 - n) for span, n in zip(spans, x.shape[1:3])]
        padded = ops.pad(x, [[0, 0], *([pad // 2, pad - pad // 2] for pad in pads), [0, 0]])
        rows, columns = spans
        return [
            padded[:, i : i + rows : self.strides, j : j + columns : self.strides, :]
            for i in range(self.pool_size)
            for j in range(self.pool_size)
        ]
