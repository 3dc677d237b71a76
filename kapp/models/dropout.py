"""Dropout: Keras's own layer, with cheaper coins."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.random import SeedGenerator

COINS = 2**16  # sides: a rate is met to within one of these


class Dropout(keras.layers.Dropout):
    """Keras's layer, and Keras's own in a file. It draws 16 bits a value where Keras draws 32 or more, which
    on a CPU cost more than the convolution before; so other values than Keras of the same seed."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not (training and 0 < self.rate < 1 and self.noise_shape is None):
            return super().call(inputs, training=training)
        kept = at_least(round(self.rate * COINS), ops.shape(inputs), self.seed_generator)
        return inputs * ops.cast(kept, inputs.dtype) / (1 - self.rate)  # `where` takes three times as long


Dropout.__module__ = "keras.layers"  # by that name a file finds Keras's


def tensorflow_at_least(least: int, shape: tuple, seeds: SeedGenerator) -> Any:
    """Whether random numbers (`shape`), from 0 to COINS - 1, are at least `least`: bool."""
    import tensorflow as tf

    count = tf.reduce_prod(shape)
    seed = tf.cast(seeds.next(), tf.int32)  # which XLA asks for
    pairs = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.int32)
    bits = tf.reshape(tf.bitcast(pairs, tf.uint16), [-1])[:count]
    return tf.reshape(bits, shape) >= tf.constant(least, tf.uint16)


def torch_at_least(least: int, shape: tuple, seeds: SeedGenerator) -> Any:
    import torch

    count = math.prod(shape)
    seed = seeds.next()
    generator = torch.Generator(seed.device).manual_seed(int(seed.sum()))  # as Keras makes its own
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=seed.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:count].view(shape) >= least - COINS // 2


def jax_at_least(least: int, shape: tuple, seeds: SeedGenerator) -> Any:
    import jax

    return jax.random.bits(seeds.next(), shape, "uint16") >= least


_AT_LEAST: dict[str, Callable] = {
    "tensorflow": tensorflow_at_least,
    "torch": torch_at_least,
    "jax": jax_at_least,
}
at_least = _AT_LEAST[keras.backend.backend()]
