"""Training steps on TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kapp.keras_internals import flatten_layers


def inference_jit(network: keras.Model) -> bool:
    """Whether XLA makes `network` faster. On CPUs it fuses the small operations of float32, but has no fast
    convolutions and no bfloat16 matrix products (reports/performance)."""
    layers = flatten_layers(network)
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    slow = any(
        isinstance(layer, keras.layers.Conv2D) or layer.compute_dtype == "bfloat16" for layer in layers
    )
    return (on_gpu or not slow) and all(layer.supports_jit for layer in layers)


def compile_step(
    learner: Any, run_eagerly: bool, jit_compile: bool | str
) -> tuple[Callable[[Any], dict], bool]:
    if jit_compile == "auto":
        jit_compile = inference_jit(learner.network)

    def compiled(function: Callable, jit: Any) -> Callable:
        return function if run_eagerly else tf.function(function, jit_compile=jit)

    def apply(gradients: list) -> None:
        learner.optimizer.apply(gradients, learner.trainable_variables)
        learner.update_average()

    def update(batch: Any) -> None:
        with tf.GradientTape() as tape:
            loss = learner.batch_loss(batch, training=True)
        compiled_apply(tape.gradient(loss, learner.trainable_variables))

    # An optimizer is a dozen operations per weight. XLA makes one pass of them.
    compiled_apply, compiled_update = compiled(apply, True), compiled(update, jit_compile)

    def train_step(data: Any) -> dict:
        compiled_update(learner.preprocess_batch(data))
        return learner.get_metrics_result()

    return train_step, False  # XLA compiles the update alone: it may make the teachers slower


def test_step(learner: Any, data: Any) -> dict:
    learner.batch_loss(learner.preprocess_batch(data), training=False)
    return learner.get_metrics_result()


def sync_variables(learner: Any) -> None:
    """Does nothing: here the variables always have their values."""


def assign(learner: Any, variable: keras.Variable, value: Any) -> None:
    variable.assign(value)
