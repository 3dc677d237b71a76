"""The device that Keras computes on, and the contents of `environment.json`."""

import platform

import keras

import kapp
from kapp import distributed, hardware
from kapp.hardware import commit
from kapp.records import Environment

__all__ = ["commit", "environment", "is_gpu", "name"]


def is_gpu() -> bool:
    """Whether Keras computes on a GPU."""
    return hardware.gpu(keras.backend.backend()) is not None


def name() -> str:
    """The name of the accelerator, or that of the processor with its number of cores."""
    return hardware.gpu(keras.backend.backend()) or hardware.processor()


def environment(data_sha256: str) -> Environment:
    """The record for `environment.json`, enough to explain why two runs differ."""
    return Environment(
        kapp=kapp.__version__,
        commit=commit(),
        python=platform.python_version(),
        platform=platform.platform(),
        backend=keras.backend.backend(),
        device=name(),
        devices=distributed.device_count(),
        threads=hardware.cores(),
        versions=hardware.versions("keras", "tensorflow", "jax", "torch", "numpy", "tensorflow-datasets"),
        data_sha256=data_sha256,
    )
