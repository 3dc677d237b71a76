"""Batch normalisation: Keras's own layer, its training step in fewer passes over the maps."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, equal within rounding, and Keras's own in a file.

    Keras casts the maps to float32 and passes over them an operation at a time: half of a training step of
    `teacher_1` on a CPU. Here each backend takes its shortest way. Statistics are in float32 under every
    dtype policy, as in Keras.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        plain = self.axis == -1 and self.scale and self.center and not (self.renorm or self.synchronized)
        if normalised is None or not (training and self.trainable and plain and mask is None):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.convert_to_tensor(variable) for variable in (self.gamma, self.beta))
        outputs, mean, variance = normalised(inputs, gamma, beta, self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return outputs


BatchNormalization.__module__ = "keras.layers"  # by that name a file finds Keras's


def tensorflow_normalised(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Four loops, each made of many operations by XLA, which on CPUs is good at these and poor at the
    convolutions between them."""
    import tensorflow as tf

    means, scaled, gradient_means, gradient = _tensorflow_loops()

    @tf.custom_gradient
    def normalised(x: Any, gamma: Any, beta: Any) -> tuple[Any, Callable]:
        # Of the differences to any one value, which lose nothing where the mean is far from 0.
        shift, mean, square = means(x)
        mean, square = tf.reduce_mean(mean, 0), tf.reduce_mean(square, 0)
        variance = square - tf.square(mean)
        mean = mean + shift
        scale = tf.math.rsqrt(variance + epsilon)

        def backward(dy: Any, *_: Any) -> tuple[Any, Any, Any]:
            dbeta, dgamma = (tf.reduce_mean(part, 0) for part in gradient_means(dy, x, mean, scale))
            dx = gradient(dy, x, mean, scale, gamma, dbeta, dgamma)
            count = tf.cast(tf.size(x) // tf.size(mean), tf.float32)
            return dx, dgamma * count, dbeta * count

        return (scaled(x, mean, scale * gamma, beta), mean, variance), backward

    outputs, mean, variance = normalised(x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)


@functools.cache
def _tensorflow_loops() -> tuple[Callable, ...]:
    """Maps as (images, positions, channels): the means are those of each image's positions, which one thread
    an image takes."""
    import tensorflow as tf

    def rows(x: Any) -> Any:
        positions = 1
        for side in x.shape[1:-1]:
            positions *= side
        return tf.cast(tf.reshape(x, (-1, positions, x.shape[-1])), tf.float32)

    @tf.function(jit_compile=True)
    def means(x: Any) -> tuple[Any, Any, Any]:
        shift = rows(x[:1])[0, 0]
        apart = rows(x) - shift
        return shift, tf.reduce_mean(apart, 1), tf.reduce_mean(tf.square(apart), 1)

    @tf.function(jit_compile=True)
    def scaled(x: Any, mean: Any, scale: Any, beta: Any) -> Any:
        return tf.cast((tf.cast(x, tf.float32) - mean) * scale + beta, x.dtype)

    @tf.function(jit_compile=True)
    def gradient_means(dy: Any, x: Any, mean: Any, scale: Any) -> tuple[Any, Any]:
        dy = rows(dy)
        return tf.reduce_mean(dy, 1), tf.reduce_mean(dy * (rows(x) - mean) * scale, 1)

    @tf.function(jit_compile=True)
    def gradient(dy: Any, x: Any, mean: Any, scale: Any, gamma: Any, dbeta: Any, dgamma: Any) -> Any:
        apart = (tf.cast(x, tf.float32) - mean) * scale
        return tf.cast((tf.cast(dy, tf.float32) - dbeta - apart * dgamma) * (scale * gamma), x.dtype)

    return means, scaled, gradient_means, gradient


def torch_normalised(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """PyTorch's own, which takes maps with their channels first, in name only: they stay where they are."""
    import torch

    outputs, mean, scale = torch.native_batch_norm(
        x.movedim(-1, 1), gamma, beta, None, None, training=True, momentum=0.0, eps=epsilon
    )
    return outputs.movedim(1, -1), mean.detach(), scale.detach() ** -2 - epsilon


# JAX's compiler makes loops of these by itself.
_NORMALISED: dict[str, Callable | None] = {"tensorflow": tensorflow_normalised, "torch": torch_normalised}
normalised = _NORMALISED.get(keras.backend.backend())
