"""What the compute runs on: processor, GPU, commit, versions. Imports a backend only to ask for its GPU."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import kapp


def _tensorflow_gpu() -> str | None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else None


def _jax_gpu() -> str | None:
    import jax

    first = jax.devices()[0]
    return None if first.platform == "cpu" else first.device_kind


def _torch_gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


_GPU = {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu, "torch": _torch_gpu}


def gpu(backend: str) -> str | None:
    """The accelerator that `backend` (tensorflow, jax, torch) would compute on, or None for the processor."""
    return _GPU[backend]()


def processor() -> str:
    """The processor's name with its number of cores."""
    return f"{_processor()}, {cores()} cores"


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def commit() -> str:
    """The commit of the checkout that kapp runs from, "+" for changes since; "" outside one. Asked once,
    before the checkout can move on under a long run."""
    git = ["git", "-C", str(Path(kapp.__file__).parent)]
    try:
        head, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.strip() + ("+" if changes.strip() else "")


def versions(*packages: str) -> dict[str, str | None]:
    """The installed version of each of `packages`, None for one that isn't."""
    return {package: _version(package) for package in packages}


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        for line in cpu.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
