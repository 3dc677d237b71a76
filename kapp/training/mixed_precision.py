"""The dtype policy of a run."""

from pathlib import Path

import keras

from kapp.keras_internals import flatten_layers
from kapp.training import device

CPU_INFO = Path("/proc/cpuinfo")  # on Linux


def set_policy(precision: str) -> str:
    """Set Keras's dtype policy for the networks built from now on, and return its name.

    Args:
        precision: float32, mixed_bfloat16, or auto. auto is mixed_bfloat16 where it was measured to be faster
            (reports/performance): on GPUs, on CPUs with AMX, and with TensorFlow and PyTorch on CPUs with
            AVX512-BF16.
    """
    if precision == "auto":
        precision = "mixed_bfloat16" if device.is_gpu() or _has_fast_bfloat16() else "float32"
    keras.config.set_dtype_policy(precision)
    return precision


def policy_of(network: keras.Model) -> str:
    """The name of the dtype policy of the first layer that has weights, frozen or not."""
    return next(
        layer.dtype_policy.name
        for layer in flatten_layers(network)
        # A model computes nothing itself.
        if layer.weights and not isinstance(layer, keras.Model | keras.layers.Normalization)
    )


def _has_fast_bfloat16() -> bool:
    flags = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    # On CPUs, JAX's compiler uses bfloat16 instructions of AMX only.
    return "amx_bf16" in flags or (keras.backend.backend() != "jax" and "avx512_bf16" in flags)
