"""One gradient step and one scoring step, per backend: what `train_step` and `test_step` are; how a network
that only answers is compiled; and how a variable is set between two steps.

A step prepares its batch (gather the images, ask the teachers), outside of any gradient, then takes the
loss and updates. Keras passes (data) on TensorFlow and PyTorch, and (state, data) on JAX, where a step is
a pure function of the model's variables.
"""

from collections.abc import Callable
from typing import Any

import keras

Step = Callable[..., Any]


def tensorflow_answering(network: keras.Model) -> bool:
    """XLA where it pays. On CPUs it makes float32's small operations one, and knows neither fast convolutions
    nor bfloat16's matrix products (reports/performance)."""
    import tensorflow as tf

    layers = network._flatten_layers()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    slow = any(
        isinstance(layer, keras.layers.Conv2D) or layer.compute_dtype == "bfloat16" for layer in layers
    )
    return (on_gpu or not slow) and all(layer.supports_jit for layer in layers)


def tensorflow_compilation(learner: Any, run_eagerly: bool, jit_compile: bool | str) -> bool:
    """Only the student's part is compiled with XLA: its teachers may be of the other kind."""
    import tensorflow as tf

    if jit_compile == "auto":
        jit_compile = tensorflow_answering(learner.network)

    def apply(gradients: list) -> None:
        learner.optimizer.apply(gradients, learner.trainable_variables)

    def update(batch: Any) -> None:
        with tf.GradientTape() as tape:
            loss = learner.batch_loss(batch, training=True)
        compiled_apply(tape.gradient(loss, learner.trainable_variables))

    # An optimiser is a dozen operations a weight, which XLA does in one pass.
    compiled_apply = apply if run_eagerly else tf.function(apply, jit_compile=True)
    learner.update = update if run_eagerly else tf.function(update, jit_compile=jit_compile)
    return False


def tensorflow_assign(learner: Any, variable: keras.Variable, value: Any) -> None:
    variable.assign(value)


def tensorflow_train(learner: Any, data: Any) -> dict:
    learner.update(learner.prepare(data))
    return learner.get_metrics_result()


def tensorflow_test(learner: Any, data: Any) -> dict:
    learner.batch_loss(learner.prepare(data), training=False)
    return learner.get_metrics_result()


def torch_answering(network: keras.Model) -> str:
    return "auto"


def torch_compilation(learner: Any, run_eagerly: bool, jit_compile: bool | str) -> bool | str:
    return jit_compile


def torch_train(learner: Any, data: Any) -> dict:
    import torch

    with torch.no_grad():
        batch = learner.prepare(data)
    learner.zero_grad()
    learner.batch_loss(batch, training=True).backward()
    variables = learner.trainable_variables
    with torch.no_grad():
        learner.optimizer.apply([variable.value.grad for variable in variables], variables)
    return learner.get_metrics_result()


torch_test = tensorflow_test
torch_assign = tensorflow_assign
jax_answering = torch_answering


def jax_compilation(learner: Any, run_eagerly: bool, jit_compile: bool | str) -> bool | str:
    return jit_compile


def jax_train(learner: Any, state: tuple, data: Any) -> tuple[dict, tuple]:
    import jax

    trainable, non_trainable, optimizer, metrics = state

    def loss(trainable: list) -> tuple[Any, tuple]:
        return _jax_loss(learner, (trainable, non_trainable, metrics), data, training=True)

    gradients, (non_trainable, metrics, logs) = jax.grad(loss, has_aux=True)(trainable)
    trainable, optimizer = learner.optimizer.stateless_apply(optimizer, gradients, trainable)
    return logs, (trainable, non_trainable, optimizer, metrics)


def jax_test(learner: Any, state: tuple, data: Any) -> tuple[dict, tuple]:
    _, (non_trainable, metrics, logs) = _jax_loss(learner, state, data, training=False)
    return logs, (state[0], non_trainable, metrics)


def jax_assign(learner: Any, variable: keras.Variable, value: Any) -> None:
    learner.jax_state_sync()  # between two steps of `fit` the variables' values are elsewhere
    variable.assign(value)


def _jax_loss(learner: Any, state: tuple, data: Any, training: bool) -> tuple[Any, tuple]:
    """The loss, and the variables' values after it."""
    variables = learner.trainable_variables, learner.non_trainable_variables, learner.metrics_variables
    mapping = [pair for group in zip(variables, state) for pair in zip(*group)]
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
        loss = learner.batch_loss(learner.prepare(data), training)
        logs = learner.get_metrics_result()
    after = ([scope.get_current_value(variable) for variable in group] for group in variables[1:])
    return loss, (*after, logs)


_STEPS: dict[str, tuple[Step, Step, Step, Step, Step]] = {
    "tensorflow": (
        tensorflow_answering,
        tensorflow_compilation,
        tensorflow_train,
        tensorflow_test,
        tensorflow_assign,
    ),
    "torch": (torch_answering, torch_compilation, torch_train, torch_test, torch_assign),
    "jax": (jax_answering, jax_compilation, jax_train, jax_test, jax_assign),
}
answering, compilation, train, test, assign = _STEPS[keras.backend.backend()]
