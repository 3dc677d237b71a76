"""Pooling by a p-norm."""

import math
from typing import Any

import keras
from keras import ops

from kapp.errors import WrongValue


@keras.saving.register_keras_serializable("kapp")
class PNormPooling2D(keras.layers.Layer):
    """s = (sum over the window of |f|^p)^(1/p), per channel (Springenberg et al. 2014, equation 1).

    p = infinity is max pooling of |f|; p = 1 is average pooling of |f| times the size of the window.
    The p-norm is taken relative to the window's greatest value, so that no power over- or underflows,
    and its gradient is 0 where a window holds only zeros.

    Args:
        pool_size: height and width of the window, in pixels.
        strides: its steps (default: `pool_size`).
        p: order of the norm, at least 1; math.inf for the maximum.
        padding: "valid", or "same": zeros beyond the edge, which add nothing to the sum.

    Takes (n, height, width, channels) and returns the same with the map pooled.

    Raises:
        WrongValue: p below 1, a size or stride below 1, an unknown padding.
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
        p = float(p)  # infinity is saved as the text "inf", because JSON has no word for it
        if not p >= 1:
            raise WrongValue(f"p is {p}: it must be at least 1 (inf for max pooling).")
        if pool_size < 1 or (strides is not None and strides < 1):
            raise WrongValue(f"pool_size is {pool_size}, strides {strides}: they must be at least 1.")
        if padding not in ("valid", "same"):
            raise WrongValue(f"padding is {padding!r}: valid or same.")
        self.pool_size, self.strides = pool_size, strides or pool_size
        self.p, self.padding = p, padding

    def call(self, inputs: Any) -> Any:
        size = ops.absolute(inputs)
        greatest = ops.max_pool(size, self.pool_size, self.strides, self.padding)
        if self.p == math.inf:
            return greatest
        # The p-norm is homogeneous: s = m (sum (|f| / m)^p)^(1/p) for any m, whose gradient cancels.
        scale = ops.stop_gradient(ops.where(greatest > 0, greatest, ops.ones_like(greatest)))
        total = ops.zeros_like(greatest)
        for window in self._shifted(size, greatest.shape[1:3]):
            total = total + ops.power(window / scale, self.p)
        empty = total == 0
        norm = ops.power(ops.where(empty, ops.ones_like(total), total), 1 / self.p)
        return ops.where(empty, ops.zeros_like(norm), norm) * scale

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        spatial = [None if n is None else self._pooled(n) for n in input_shape[1:3]]
        return (input_shape[0], *spatial, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        settings = {"pool_size": self.pool_size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **settings, "p": "inf" if self.p == math.inf else self.p}

    def _shifted(self, size: Any, pooled: tuple[int, int]) -> list[Any]:
        """The values that stand at each place of the window, one map a place."""
        pads = [
            max(0, (out - 1) * self.strides + self.pool_size - n) for out, n in zip(pooled, size.shape[1:3])
        ]
        padding = [[0, 0], *([pad // 2, pad - pad // 2] for pad in pads), [0, 0]]
        padded = ops.pad(size, padding)
        rows, columns = ((out - 1) * self.strides + 1 for out in pooled)
        return [
            padded[:, i : i + rows : self.strides, j : j + columns : self.strides, :]
            for i in range(self.pool_size)
            for j in range(self.pool_size)
        ]

    def _pooled(self, n: int) -> int:
        if self.padding == "same":
            return -(-n // self.strides)
        return (n - self.pool_size) // self.strides + 1
