"""Training steps on PyTorch."""

from collections.abc import Callable
from typing import Any

import keras
import torch


def inference_jit(network: keras.Model) -> str:
    return "auto"


def compile_step(
    learner: Any, run_eagerly: bool, jit_compile: bool | str
) -> tuple[Callable[[Any], dict], bool | str]:
    def train_step(data: Any) -> dict:
        with torch.no_grad():
            batch = learner.preprocess_batch(data)
        learner.zero_grad()
        learner.batch_loss(batch, training=True).backward()
        variables = learner.trainable_variables
        with torch.no_grad():
            learner.optimizer.apply([variable.value.grad for variable in variables], variables)
            learner.update_average()
        return learner.get_metrics_result()

    return train_step, jit_compile


def test_step(learner: Any, data: Any) -> dict:
    learner.batch_loss(learner.preprocess_batch(data), training=False)
    return learner.get_metrics_result()


def sync_variables(learner: Any) -> None:
    """Does nothing: here the variables always have their values."""


def assign(learner: Any, variable: keras.Variable, value: Any) -> None:
    variable.assign(value)
