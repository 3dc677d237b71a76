"""Functions in `keras.ops` that the backend's compiler turns into one pass over memory.

Uncompiled, each operation is a pass of its own.
"""

import functools
import math
import shutil
from collections.abc import Callable
from typing import Any

import keras

MIN_SIZE = 2**20  # elements of a tensor for which a compiled function is worth the seconds of compilation


def should_compile(x: Any) -> bool:
    """Returns whether compiled functions of `x` are faster on this backend.

    JAX compiles whole steps anyway. PyTorch has fast kernels on GPUs, and needs a C++ compiler on CPUs.
    """
    shape = tuple(x.shape)
    if None in shape or math.prod(shape) < MIN_SIZE:
        return False
    match keras.backend.backend():
        case "tensorflow":
            return True
        case "torch":
            return x.device.type == "cpu" and _has_cpp_compiler()
    return False


def xla_jit(function: Callable) -> Callable:
    """Decorates a function of tensors: compiled with XLA on TensorFlow, where small functions run best."""
    return _compile_at_first_call(function, "tensorflow", _with_xla)


def inductor_jit(function: Callable) -> Callable:
    """Decorates a function of tensors: compiled with inductor on PyTorch, where large functions run best."""
    return _compile_at_first_call(function, "torch", _with_inductor)


def upstream_gradient(args: tuple, upstream: Any) -> Any:
    """Returns the gradient that `keras.ops.custom_gradient` passes: by position or, on PyTorch, by name."""
    return args[0] if upstream is None else upstream


@functools.cache
def _has_cpp_compiler() -> bool:
    return bool(shutil.which("g++") or shutil.which("clang++"))


def _compile_at_first_call(function: Callable, backend: str, compile: Callable) -> Callable:
    # Not earlier, because compilers take seconds to import.
    if keras.backend.backend() != backend:
        return function
    compiled = functools.cache(lambda: compile(function))
    return functools.wraps(function)(lambda *args: compiled()(*args))


def _with_xla(function: Callable) -> Callable:
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def _with_inductor(function: Callable) -> Callable:
    import torch

    # One program per shape: one program for all shapes takes two to four times as long.
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(function, dynamic=False)
