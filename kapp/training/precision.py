"""The dtype policy that a run computes in."""

from pathlib import Path

import keras

from kapp.training import device

CPU = Path("/proc/cpuinfo")  # what Linux says of it


def use(precision: str) -> str:
    """Set Keras's dtype policy for the networks to come, and return its name.

    Args:
        precision: float32, mixed_bfloat16, or auto: mixed_bfloat16 where it was measured to be faster
            (reports/performance): on a GPU, on a CPU with AMX, and for TensorFlow and PyTorch on one with
            AVX512-BF16; float32 elsewhere.
    """
    if precision == "auto":
        precision = "mixed_bfloat16" if device.is_gpu() or _pays() else "float32"
    keras.config.set_dtype_policy(precision)
    return precision


def of(network: keras.Model) -> str:
    """The dtype policy that the first layer with weights to train was made under."""
    return next(layer.dtype_policy.name for layer in network._flatten_layers() if layer.trainable_weights)


def _pays() -> bool:
    can = CPU.read_text() if CPU.is_file() else ""
    # JAX's compiler knows no bfloat16 for CPUs but AMX.
    return "amx_bf16" in can or (keras.backend.backend() != "jax" and "avx512_bf16" in can)
