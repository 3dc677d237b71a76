"""Batch normalisation: Keras's own layer, its training step in fewer passes over the maps."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.models import loops
from kapp.models.loops import part, upstream_of, whole
from kapp.models.rectification import rectified


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, equal within rounding, and Keras's own in a file.

    Keras casts the maps to float32 and passes over them an operation at a time: half of a training step of
    `teacher_1` on a CPU. Here a few compiled loops do it. Statistics are in float32 under every dtype
    policy, as in Keras.

    Args:
        before_relu: whether a ReLU, and nothing else, takes what this layer gives. Those loops then take
            it along, and the ReLU layer has nothing left to do. It isn't in a file.
    """

    def __init__(self, *args: Any, before_relu: bool = False, **settings: Any):
        super().__init__(*args, **settings)
        self.before_relu = before_relu

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        plain = self.axis == -1 and self.scale and self.center and not (self.renorm or self.synchronized)
        way = _way(inputs) if training and self.trainable and plain and mask is None else None
        if way is None:
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.copy(variable) for variable in (self.gamma, self.beta))
        outputs, mean, variance = way(inputs, gamma, beta, self.epsilon, self.before_relu)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return rectified(outputs) if self.before_relu else outputs


BatchNormalization.__module__ = "keras.layers"  # by that name a file finds Keras's


def compiled_normalised(x: Any, gamma: Any, beta: Any, epsilon: float, relu: bool) -> tuple[Any, Any, Any]:
    """Batch normalisation (Ioffe & Szegedy 2015, algorithm 1) and its gradient (their section 3).

    Args:
        x: (n, ..., channels).
        gamma, beta: float32 (channels,).
        relu: whether ReLU follows.

    Returns:
        As `x`; float32 (channels,): mean and variance, of which no gradient is taken.
    """
    moments: list = []  # beside the maps: those the gradient must not hold (see max_pooling.tiles_pooled)

    @ops.custom_gradient
    def normalised(x: Any, gamma: Any, beta: Any) -> tuple[Any, Callable]:
        outputs, mean, variance, inverse = _forward(x, gamma, beta, epsilon, relu)
        moments.extend((mean, variance))

        def gradient(*given: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
            return _backward(upstream_of(given, upstream), x, mean, inverse, gamma, beta, relu)

        return outputs, gradient

    return normalised(x, gamma, beta), *moments


@whole
def _forward(x: Any, gamma: Any, beta: Any, epsilon: float, relu: bool) -> tuple[Any, Any, Any, Any]:
    """The maps, and each channel's mean, variance and 1 / standard deviation."""
    count = math.prod(x.shape[:-1])
    shift, *sums = _sums(x)
    mean, square = (ops.sum(each, 0) / count for each in sums)
    variance = ops.relu(square - ops.square(mean))  # of values all alike, rounding may say less than 0
    mean = mean + shift
    inverse = ops.rsqrt(variance + epsilon)
    return _scaled(x, mean, inverse, gamma, beta, relu), mean, variance, inverse


@whole
def _backward(
    dy: Any, x: Any, mean: Any, inverse: Any, gamma: Any, beta: Any, relu: bool
) -> tuple[Any, Any, Any]:
    """The gradients of the maps, gamma and beta."""
    count = math.prod(x.shape[:-1])
    dgamma, dbeta = (ops.sum(each, 0) for each in _gradient_sums(dy, x, mean, inverse, gamma, beta, relu))
    means = dgamma / count, dbeta / count
    return _gradient(dy, x, mean, inverse, gamma, beta, *means, relu), dgamma, dbeta


# The sums are those of each image: one thread an image, and the channels side by side in a register.


@part
def _sums(x: Any) -> tuple[Any, Any, Any]:
    """Of x - shift and its square; shift is any one value, so that nothing is lost far from 0."""
    shift = _rows(x[:1])[0, 0]
    apart = _rows(x) - shift
    return shift, _total(apart), _total(ops.square(apart))


@part
def _scaled(x: Any, mean: Any, inverse: Any, gamma: Any, beta: Any, relu: bool) -> Any:
    outputs = (ops.cast(x, "float32") - mean) * (inverse * gamma) + beta
    return ops.cast(ops.relu(outputs) if relu else outputs, x.dtype)


@part
def _gradient_sums(
    dy: Any, x: Any, mean: Any, inverse: Any, gamma: Any, beta: Any, relu: bool
) -> tuple[Any, Any]:
    dy, x = _before_relu(_rows(dy), _rows(x), mean, inverse, gamma, beta, relu)
    return _total(dy * x), _total(dy)


@part
def _gradient(
    dy: Any, x: Any, mean: Any, inverse: Any, gamma: Any, beta: Any, dgamma: Any, dbeta: Any, relu: bool
) -> Any:
    dtype = x.dtype
    dy, x = (ops.cast(maps, "float32") for maps in (dy, x))
    dy, x = _before_relu(dy, x, mean, inverse, gamma, beta, relu)
    return ops.cast((dy - dbeta - x * dgamma) * (inverse * gamma), dtype)


def _before_relu(
    dy: Any, x: Any, mean: Any, inverse: Any, gamma: Any, beta: Any, relu: bool
) -> tuple[Any, Any]:
    """The gradient before ReLU, if there was one, and `x` normalised."""
    x = (x - mean) * inverse
    return ops.where(x * gamma + beta > 0, dy, ops.zeros_like(dy)) if relu else dy, x


def _total(rows: Any) -> Any:
    """The sum over positions: of eight stretches side by side first, which XLA does in half of the time."""
    stretches = ops.split(rows, 8, 1) if rows.shape[1] % 8 == 0 else [rows]
    return ops.sum(functools.reduce(operator.add, stretches), 1)


def _rows(x: Any) -> Any:
    """(images, positions, channels)"""
    return ops.cast(ops.reshape(x, (x.shape[0], -1, x.shape[-1])), "float32")


def torch_normalised(x: Any, gamma: Any, beta: Any, epsilon: float, relu: bool) -> tuple[Any, Any, Any]:
    """PyTorch's own, which takes maps with their channels first, in name only: they stay where they are."""
    import torch

    outputs, mean, inverse = torch.native_batch_norm(
        x.movedim(-1, 1), gamma, beta, None, None, training=True, momentum=0.0, eps=epsilon
    )
    outputs = outputs.relu() if relu else outputs
    return outputs.movedim(1, -1), mean.detach(), inverse.detach() ** -2 - epsilon


def _way(x: Any) -> Callable | None:
    """How this backend had best normalise `x`; None: as Keras does."""
    if loops.pay(x):
        return compiled_normalised
    return torch_normalised if keras.backend.backend() == "torch" else None
