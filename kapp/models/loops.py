"""Loops over whole maps, written in `keras.ops` and compiled by the backend's own compiler: one pass where
the backend would take a pass an operation."""

import functools
import math
import shutil
from collections.abc import Callable
from typing import Any

import keras

LARGE = 2**20  # values from which on a loop is worth its compiler's seconds


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


def part(loops: Callable) -> Callable:
    """Decorates `loops`, a function of tensors: one program of TensorFlow's compiler, XLA, which is at its
    best with little at a time."""
    return _lazily(loops, "tensorflow", _by_xla)


def whole(loops: Callable) -> Callable:
    """Decorates `loops`, a function of tensors and of parts: one program of PyTorch's compiler, inductor,
    which is at its best with all at a time."""
    return _lazily(loops, "torch", _by_inductor)


def _lazily(loops: Callable, backend: str, compiler: Callable) -> Callable:
    """Compilers take seconds to import: not before they are needed."""
    if keras.backend.backend() != backend:
        return loops
    compiled = functools.cache(lambda: compiler(loops))
    return functools.wraps(loops)(lambda *given: compiled()(*given))


def _by_xla(loops: Callable) -> Callable:
    import tensorflow as tf

    return tf.function(loops, jit_compile=True)


def _by_inductor(loops: Callable) -> Callable:
    import torch

    # A program for each shape: one for all takes two to four times as long.
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(loops, dynamic=False)


def upstream_of(given: tuple, upstream: Any) -> Any:
    """What a `keras.ops.custom_gradient` is handed: by place on TensorFlow, by name on PyTorch."""
    return given[0] if upstream is None else upstream
