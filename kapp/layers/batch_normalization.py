"""Batch normalization with fewer passes over memory in training."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.keras_internals import saved_as_keras
from kapp.layers.compiled_ops import inductor_jit, should_compile, upstream_gradient, xla_jit


@saved_as_keras
class BatchNormalization(keras.layers.BatchNormalization):
    """Same results (up to rounding) and saved format as `keras.layers.BatchNormalization`; faster training.

    Keras casts its inputs to float32 and passes over them once per operation: half of a training step of
    `teacher_1` on a CPU. Here a few compiled functions do it. Statistics are float32 under every dtype
    policy, as in Keras.

    Args:
        *args, **kwargs: as for `keras.layers.BatchNormalization`.
        fuse_relu: whether the compiled functions apply ReLU, too. Only for a layer whose sole consumer is
            `ReLU(batch_norm=this_layer)`. It isn't saved.

    Example:

    >>> outputs = BatchNormalization()(keras.random.normal((1000, 4), mean=5.0), training=True)
    >>> float(ops.round(ops.abs(ops.mean(outputs)), 3))
    0.0
    """

    def __init__(self, *args: Any, fuse_relu: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fuse_relu = fuse_relu

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        batch_norm = self._implementation(inputs, training)
        if batch_norm is None:
            return super().call(inputs, training=training, mask=mask)
        if mask is not None:  # `computes_relu` has no mask to look at
            outputs = super().call(inputs, training=training, mask=mask)
            return ops.relu(outputs) if self.fuse_relu else outputs
        beta = ops.copy(self.beta)
        gamma = ops.copy(self.gamma) if self.scale else ops.ones_like(beta)
        outputs, mean, variance = batch_norm(inputs, gamma, beta, self.epsilon, self.fuse_relu)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def computes_relu(self, inputs: Any, training: bool | None) -> bool:
        """Returns whether `call` with these arguments, or with an input of the same shape, applies ReLU."""
        return self.fuse_relu and self._implementation(inputs, training) is not None

    def _implementation(self, inputs: Any, training: bool | None) -> Callable | None:
        """What computes a training step; None for Keras's own `call`."""
        plain = self.axis == -1 and self.center and not (self.renorm or self.synchronized)
        if not (training and self.trainable and plain):
            return None
        if should_compile(inputs):
            return compiled_batch_norm
        return torch_batch_norm if keras.backend.backend() == "torch" else None


def compiled_batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float, relu: bool) -> tuple[Any, Any, Any]:
    """Batch normalization (Ioffe & Szegedy 2015, algorithm 1) with its gradient (their section 3).

    Args:
        x: (n, ..., channels).
        gamma: float32 (channels,).
        beta: float32 (channels,).
        epsilon: added to the variance.
        relu: whether to apply ReLU.

    Returns:
        outputs: same shape and dtype as `x`.
        mean: float32 (channels,), without gradient.
        variance: float32 (channels,), without gradient.
    """
    # Not outputs of `batch_norm`: `gradient` uses them, and must not use an output (see `max_pool_tiles`).
    statistics: list = []

    @ops.custom_gradient
    def batch_norm(x: Any, gamma: Any, beta: Any) -> tuple[Any, Callable]:
        outputs, mean, variance, inverse = _forward(x, gamma, beta, epsilon, relu)
        statistics.extend((mean, variance))

        def gradient(*args: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
            return _backward(upstream_gradient(args, upstream), x, mean, inverse, gamma, beta, relu)

        return outputs, gradient

    return batch_norm(x, gamma, beta), *statistics


def torch_batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float, relu: bool) -> tuple[Any, Any, Any]:
    """Same as `compiled_batch_norm` with PyTorch's kernel; memory stays in the order channels last."""
    import torch

    outputs, mean, inverse = torch.native_batch_norm(
        x.movedim(-1, 1), gamma, beta, None, None, training=True, momentum=0.0, eps=epsilon
    )
    outputs = outputs.relu() if relu else outputs
    return outputs.movedim(1, -1), mean.detach(), inverse.detach() ** -2 - epsilon


@inductor_jit
def _forward(x, gamma, beta, epsilon: float, relu: bool):
    """Outputs, and each channel's mean, variance and 1 / standard deviation."""
    count = math.prod(x.shape[:-1])
    shift, *sums = _shifted_sums(x)
    mean, square = (ops.sum(each, 0) / count for each in sums)
    variance = ops.relu(square - ops.square(mean))  # rounding can make it negative if all values are equal
    mean = mean + shift
    inverse = ops.rsqrt(variance + epsilon)
    return _normalize(x, mean, inverse, gamma, beta, relu), mean, variance, inverse


@inductor_jit
def _backward(dy, x, mean, inverse, gamma, beta, relu: bool):
    """Gradients of `x`, `gamma` and `beta`."""
    count = math.prod(x.shape[:-1])
    dgamma, dbeta = (ops.sum(each, 0) for each in _gradient_sums(dy, x, mean, inverse, gamma, beta, relu))
    means = dgamma / count, dbeta / count
    return _gradient(dy, x, mean, inverse, gamma, beta, *means, relu), dgamma, dbeta


# Sums are per image, over its positions: one thread per image, its channels in vector registers.


@xla_jit
def _shifted_sums(x):
    """`shift`, and the sums of x - shift and of its square. `shift` is one value of x: keeps precision if
    the mean is far from 0."""
    shift = _by_position(x[:1])[0, 0]
    difference = _by_position(x) - shift
    return shift, _sum_positions(difference), _sum_positions(ops.square(difference))


@xla_jit
def _normalize(x, mean, inverse, gamma, beta, relu: bool):
    outputs = (ops.cast(x, "float32") - mean) * (inverse * gamma) + beta
    return ops.cast(ops.relu(outputs) if relu else outputs, x.dtype)


@xla_jit
def _gradient_sums(dy, x, mean, inverse, gamma, beta, relu: bool):
    dy, x = _before_scaling(_by_position(dy), _by_position(x), mean, inverse, gamma, beta, relu)
    return _sum_positions(dy * x), _sum_positions(dy)


@xla_jit
def _gradient(dy, x, mean, inverse, gamma, beta, dgamma, dbeta, relu: bool):
    dtype = x.dtype
    dy, x = (ops.cast(maps, "float32") for maps in (dy, x))
    dy, x = _before_scaling(dy, x, mean, inverse, gamma, beta, relu)
    return ops.cast((dy - dbeta - x * dgamma) * (inverse * gamma), dtype)


def _before_scaling(dy, x, mean, inverse, gamma, beta, relu: bool):
    """The gradient before ReLU, and normalized `x`."""
    x = (x - mean) * inverse
    return ops.where(x * gamma + beta > 0, dy, ops.zeros_like(dy)) if relu else dy, x


def _sum_positions(x):
    """Sum over axis 1. Eight parts are added first: XLA needs half of the time."""
    parts = ops.split(x, 8, 1) if x.shape[1] % 8 == 0 else [x]
    return ops.sum(functools.reduce(operator.add, parts), 1)


def _by_position(x):
    """float32 (n, positions, channels)."""
    return ops.cast(ops.reshape(x, (x.shape[0], -1, x.shape[-1])), "float32")
