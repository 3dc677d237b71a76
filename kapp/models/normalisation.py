"""Batch normalisation: Keras's own layer, its training step in fewer passes over the maps."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kapp.models import loops
from kapp.models.loops import compiled, upstream_of


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, equal within rounding, and Keras's own in a file.

    Keras casts the maps to float32 and passes over them an operation at a time: half of a training step of
    `teacher_1` on a CPU. Here a few compiled loops do it. Statistics are in float32 under every dtype
    policy, as in Keras.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        plain = self.axis == -1 and self.scale and self.center and not (self.renorm or self.synchronized)
        way = _way(inputs) if training and self.trainable and plain and mask is None else None
        if way is None:
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.copy(variable) for variable in (self.gamma, self.beta))
        outputs, mean, variance = way(inputs, gamma, beta, self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return outputs


BatchNormalization.__module__ = "keras.layers"  # by that name a file finds Keras's


def compiled_normalised(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Batch normalisation (Ioffe & Szegedy 2015, algorithm 1) and its gradient (their section 3).

    Args:
        x: (n, ..., channels).
        gamma, beta: float32 (channels,).

    Returns:
        As `x`; float32 (channels,): mean and variance, of which no gradient is taken.
    """
    shift, mean, square = compiled(_means)(ops.stop_gradient(x))
    mean, square = ops.mean(mean, 0), ops.mean(square, 0)
    variance = ops.maximum(square - ops.square(mean), 0.0)  # of values all alike, rounding may say less
    mean = mean + shift
    inverse = ops.rsqrt(variance + epsilon)

    @ops.custom_gradient
    def scaled(x: Any, gamma: Any, beta: Any) -> tuple[Any, Callable]:
        def gradient(*given: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
            dy = upstream_of(given, upstream)
            means = compiled(_gradient_means)(dy, x, mean, inverse)
            dbeta, dgamma = (ops.mean(part, 0) for part in means)
            count = math.prod(x.shape[:-1])
            dx = compiled(_gradient)(dy, x, mean, inverse, gamma, dbeta, dgamma)
            return dx, dgamma * count, dbeta * count

        return compiled(_scaled)(x, mean, inverse * gamma, beta), gradient

    return scaled(x, gamma, beta), mean, variance


# The means are those of each image: one thread an image, and the channels side by side in a register.


def _means(x: Any) -> tuple[Any, Any, Any]:
    """Of x - shift and its square; shift is any one value, so that nothing is lost far from 0."""
    shift = _rows(x[:1])[0, 0]
    apart = _rows(x) - shift
    return shift, ops.mean(apart, 1), ops.mean(ops.square(apart), 1)


def _scaled(x: Any, mean: Any, scale: Any, beta: Any) -> Any:
    return ops.cast((ops.cast(x, "float32") - mean) * scale + beta, x.dtype)


def _gradient_means(dy: Any, x: Any, mean: Any, inverse: Any) -> tuple[Any, Any]:
    dy = _rows(dy)
    return ops.mean(dy, 1), ops.mean(dy * (_rows(x) - mean) * inverse, 1)


def _gradient(dy: Any, x: Any, mean: Any, inverse: Any, gamma: Any, dbeta: Any, dgamma: Any) -> Any:
    x_hat = (ops.cast(x, "float32") - mean) * inverse
    return ops.cast((ops.cast(dy, "float32") - dbeta - x_hat * dgamma) * (inverse * gamma), x.dtype)


def _rows(x: Any) -> Any:
    """(images, positions, channels)"""
    return ops.cast(ops.reshape(x, (x.shape[0], -1, x.shape[-1])), "float32")


def torch_normalised(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """PyTorch's own, which takes maps with their channels first, in name only: they stay where they are."""
    import torch

    outputs, mean, inverse = torch.native_batch_norm(
        x.movedim(-1, 1), gamma, beta, None, None, training=True, momentum=0.0, eps=epsilon
    )
    return outputs.movedim(1, -1), mean.detach(), inverse.detach() ** -2 - epsilon


def _way(x: Any) -> Callable | None:
    """How this backend had best normalise `x`; None: as Keras does."""
    if loops.pay(x):
        return compiled_normalised
    return torch_normalised if keras.backend.backend() == "torch" else None
