"""What differs by backend in a training step: one module per backend, each with the same five functions.

- `inference_jit(network)`: the `jit_compile` of a network that only predicts.
- `compile_step(learner, run_eagerly, jit_compile)`: the train step, and the `jit_compile` of what Keras
  compiles around it.
- `test_step(learner, ...)`: one step of `evaluate`.
- `sync_variables(learner)`: write the current values to the variables, between two steps of `fit`.
- `assign(learner, variable, value)`: set a variable between two steps of `fit`.

A step first preprocesses its batch (images, teacher logits), outside of any gradient; then it computes the
loss and updates the weights. Keras passes (data) on TensorFlow and PyTorch. On JAX it passes (state, data):
there a step is a pure function of the variables.
"""

from importlib import import_module
from typing import Any

import keras

backend: Any = import_module(f"{__name__}.{keras.backend.backend()}")
