"""GELU with fewer passes over memory in training."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.keras_internals import saved_as_keras
from kapp.layers.compiled_ops import should_compile, upstream_gradient, xla_jit


@saved_as_keras
class Activation(keras.layers.Activation):
    """Same results (up to rounding) and saved format as `keras.layers.Activation`. In training on TensorFlow,
    which has no kernel for GELU, that takes a seventh of the time.

    Args:
        *args, **kwargs: as for `keras.layers.Activation`.

    Example:

    >>> float(ops.round(Activation("gelu")(ops.ones((1,)), training=True)[0], 4))
    0.8413
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        is_gelu = self.activation is keras.activations.gelu
        if not is_gelu or keras.backend.backend() != "tensorflow":
            return super().call(inputs)
        if training and should_compile(inputs):
            return compiled_gelu(inputs)
        z = ops.cast(inputs, "float32")
        # Keras's is of `erfc`, which ONNX doesn't have. LiteRT has this product, and no `erf`.
        return ops.cast((0.5 * z) * (1 + ops.erf(z * math.sqrt(0.5))), inputs.dtype)


def compiled_gelu(x: Any) -> Any:
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016), with its gradient."""

    @ops.custom_gradient
    def gelu(x: Any) -> tuple[Any, Callable]:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            return _gradient(upstream_gradient(args, upstream), x)

        return _gelu(x), gradient

    return gelu(x)


@xla_jit
def _gelu(x):
    z = ops.cast(x, "float32")
    return ops.cast(z * _distribution(z), x.dtype)


@xla_jit
def _gradient(dy, x):
    z = ops.cast(x, "float32")
    density = ops.exp(-0.5 * ops.square(z)) / math.sqrt(2 * math.pi)
    return ops.cast(ops.cast(dy, "float32") * (_distribution(z) + z * density), x.dtype)


def _distribution(z):
    return 0.5 * (1 + ops.erf(z * math.sqrt(0.5)))
