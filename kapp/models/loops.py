"""Loops over whole maps, written in `keras.ops` and compiled by the backend's own compiler: one pass where
the backend would take a pass an operation."""

import functools
import math
import shutil
from collections.abc import Callable
from typing import Any

import keras

LARGE = 2**19  # values from which on a loop is worth its compiler's seconds


def pay(x: Any) -> bool:
    """Whether compiled loops over `x` are worth while here. JAX compiles whole steps anyway; PyTorch has
    kernels of its own on GPUs, and needs a C++ compiler on CPUs."""
    shape = tuple(x.shape)
    if None in shape or math.prod(shape) < LARGE:
        return False
    match keras.backend.backend():
        case "tensorflow":
            return True
        case "torch":
            return x.device.type == "cpu" and bool(shutil.which("g++") or shutil.which("clang++"))
    return False


@functools.cache
def compiled(loop: Callable) -> Callable:
    """`loop`, a function of tensors, as one program of the backend's compiler (XLA, inductor)."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.compile(loop)
    import tensorflow as tf

    return tf.function(loop, jit_compile=True)


def upstream_of(given: tuple, upstream: Any) -> Any:
    """What a `keras.ops.custom_gradient` is handed: by place on TensorFlow, by name on PyTorch."""
    return given[0] if upstream is None else upstream
