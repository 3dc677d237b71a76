"""Training steps on JAX: pure functions of the variables."""

from collections.abc import Callable
from typing import Any

import jax
import keras


def inference_jit(network: keras.Model) -> str:
    return "auto"


def compile_step(
    learner: Any, run_eagerly: bool, jit_compile: bool | str
) -> tuple[Callable[[tuple, Any], tuple[dict, tuple]], bool | str]:
    def train_step(state: tuple, data: Any) -> tuple[dict, tuple]:
        trainable, non_trainable, optimizer, metrics = state

        def loss(trainable: list) -> tuple[Any, tuple]:
            return _stateless_loss(learner, (trainable, non_trainable, metrics), data, training=True)

        gradients, (non_trainable, metrics, logs) = jax.grad(loss, has_aux=True)(trainable)
        trainable, optimizer = learner.optimizer.stateless_apply(optimizer, gradients, trainable)
        if learner.averaged is not None:
            non_trainable = _updated_average(learner, trainable, non_trainable, optimizer)
        return logs, (trainable, non_trainable, optimizer, metrics)

    return train_step, jit_compile


def test_step(learner: Any, state: tuple, data: Any) -> tuple[dict, tuple]:
    _, (non_trainable, metrics, logs) = _stateless_loss(learner, state, data, training=False)
    return logs, (state[0], non_trainable, metrics)


def sync_variables(learner: Any) -> None:
    learner.jax_state_sync()


def assign(learner: Any, variable: keras.Variable, value: Any) -> None:
    sync_variables(learner)
    variable.assign(value)


def _updated_average(learner: Any, *state: tuple) -> tuple:
    """The values of the variables that aren't trained, with the new average."""
    variables = learner.trainable_variables, learner.non_trainable_variables, learner.optimizer.variables
    mapping = [pair for group in zip(variables, state) for pair in zip(*group)]
    with keras.StatelessScope(state_mapping=mapping) as scope:
        learner.update_average()
    return tuple(scope.get_current_value(variable) for variable in variables[1])


def _stateless_loss(learner: Any, state: tuple, data: Any, training: bool) -> tuple[Any, tuple]:
    """The loss; and the values of the other variables after it, with the logs."""
    variables = learner.trainable_variables, learner.non_trainable_variables, learner.metrics_variables
    mapping = [pair for group in zip(variables, state) for pair in zip(*group)]
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
        loss = learner.batch_loss(learner.preprocess_batch(data), training)
        logs = learner.get_metrics_result()
    after = ([scope.get_current_value(variable) for variable in group] for group in variables[1:])
    return loss, (*after, logs)
