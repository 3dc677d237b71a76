"""Where Keras computes, and what `environment.json` says of it."""

import platform
from collections.abc import Mapping

import keras

import kapp
from kapp import machine
from kapp.machine import commit
from kapp.training import parallel

__all__ = ["commit", "environment", "is_gpu", "name"]


def is_gpu() -> bool:
    return machine.gpu(keras.backend.backend()) is not None


def name() -> str:
    """The accelerator's name, or the processor's with its number of cores."""
    return machine.gpu(keras.backend.backend()) or machine.processor()


def environment(data_sha256: str) -> Mapping[str, object]:
    """What `environment.json` says: enough to tell why two runs differ."""
    return {
        "kapp": kapp.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        "device": name(),
        "devices": parallel.devices(),
        "threads": machine.cores(),
        "versions": machine.versions("keras", "tensorflow", "jax", "torch", "numpy", "tensorflow-datasets"),
        "data_sha256": data_sha256,
    }
