"""The dtype policy that a run computes in."""

from pathlib import Path

import keras

from kapp.training import device


def use(precision: str) -> str:
    """Set Keras's dtype policy for the networks to come, and return its name.

    Args:
        precision: float32, mixed_bfloat16, or auto: mixed_bfloat16 where the machine has units for it
            (a GPU, or a CPU with AMX), float32 elsewhere.
    """
    if precision == "auto":
        precision = "mixed_bfloat16" if device.is_gpu() or _has_amx() else "float32"
    keras.config.set_dtype_policy(precision)
    return precision


def of(network: keras.Model) -> str:
    """The dtype policy that the first layer with weights to train was made under."""
    return next(layer.dtype_policy.name for layer in network._flatten_layers() if layer.trainable_weights)


def _has_amx() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "amx_bf16" in cpu.read_text()
