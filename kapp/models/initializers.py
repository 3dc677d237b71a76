"""Initial weights, drawn on the host: the same on every backend."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import ndtr, ndtri

from kapp.keras_internals import saved_as_keras

BOUND = 2.0  # the normal distribution is truncated there, in its standard deviations
TRUNCATED_STD = 0.87962566103423978  # of the truncated distribution, likewise
CHUNK = 2**16  # numbers drawn at once: they stay in the processor's cache


@saved_as_keras
class HeNormal(keras.initializers.HeNormal):
    """Same distribution and saved format as `keras.initializers.HeNormal` (He et al. 2015, equation 10); the
    same values on every backend.

    Keras draws with the backend's own generator. Here NumPy draws raw bits, which are the same in all its
    versions, and the inverse of the distribution function turns each of them into a weight.

    Args:
        seed: integer from 0.

    Example:

    >>> kernel = HeNormal(seed=0)((3, 3, 8, 8))
    >>> [round(float(weight), 4) for weight in kernel[0, 0, 0, :3]]
    [-0.1946, -0.3405, 0.2635]
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        fan_in = math.prod(shape[:-1])  # of the kernels of Dense and Conv2D
        std = math.sqrt(2 / fan_in) / TRUNCATED_STD
        return ops.convert_to_tensor(truncated_normal(shape, std, self.seed), dtype=dtype)


@saved_as_keras
class VarianceScaling(keras.initializers.VarianceScaling):
    """The uniform distribution of PyTorch's layers, between -1 and 1, divided by the root of the number of
    inputs; the same values on every backend, saved as Keras's `VarianceScaling`.

    Args:
        seed: integer from 0.
        identity: of a convolution with an odd kernel: the first filters copy one input channel each, filter i
            channel i, as `torch.nn.init.dirac_` (Jordan 2024, section 3.3). It isn't saved.

    Example:

    >>> VarianceScaling(seed=0, identity=True)((1, 1, 2, 3))[0, 0, :, 0].tolist()
    [1.0, 0.0]
    """

    def __init__(
        self,
        scale: float = 1 / 3,
        mode: str = "fan_in",
        distribution: str = "uniform",
        seed: Any = None,
        identity: bool = False,
    ):
        super().__init__(scale, mode, distribution, seed)
        self.identity = identity

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        limit = math.sqrt(3 * self.scale / math.prod(shape[:-1]))
        values = (limit * (2 * uniform(math.prod(shape), self.seed) - 1)).astype(np.float32).reshape(shape)
        if self.identity:
            height, width, inputs, filters = shape
            count = min(inputs, filters)
            values[..., :count] = 0
            values[height // 2, width // 2, np.arange(count), np.arange(count)] = 1
        return ops.convert_to_tensor(values, dtype=dtype)


def uniform(count: int, seed: int) -> np.ndarray:
    """Returns numbers between 0 and 1: float64 (count,).

    Args:
        count: how many.
        seed: integer from 0.
    """
    words = np.random.Philox(np.random.SeedSequence([seed])).random_raw(-(-count // 2))
    return (words.astype("<u8").view("<u4")[:count] + 0.5) / 2**32


def truncated_normal(shape: Sequence[int], std: float, seed: int) -> np.ndarray:
    """Returns numbers of a normal distribution with mean 0, truncated at two standard deviations.

    Args:
        shape: of the result.
        std: standard deviation before the truncation.
        seed: integer from 0.

    Returns:
        float32 `shape`.
    """
    values = np.empty(math.prod(shape), np.float32)
    generator = np.random.Philox(np.random.SeedSequence([seed]))
    low, high = ndtr(-BOUND), ndtr(BOUND)
    scale = (high - low) / 2**32
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        # Two numbers from each 64 bits, the lower half first.
        bits = generator.random_raw(-(-len(part) // 2)).astype("<u8").view("<u4")[: len(part)]
        part[:] = std * ndtri(low + scale * (bits + 0.5))
    return values.reshape(shape)
