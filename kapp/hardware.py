"""The environment of a run: processor, GPU, commit and package versions. Imports a backend only in `gpu`."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import kapp


def gpu(backend: str) -> str | None:
    """Returns the name of the accelerator that the backend computes on, or None for the processor.

    Args:
        backend: "tensorflow", "jax" or "torch".
    """
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else None
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def gpus() -> list[str]:
    """Returns the identifiers of the NVIDIA GPUs that this process may use, without using them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        try:
            visible = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return []
    # CUDA ignores what follows a negative number: -1 hides all.
    return list(takewhile(lambda name: not name.startswith("-"), visible.replace(",", " ").split()))


def processor() -> str:
    """Returns the name of the processor with its number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {cores()} cores"


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Returns the bytes of memory that this process may use; None: unknown."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container: cgroups version 2, and 1
        try:
            limits += [int(Path("/sys/fs/cgroup", name).read_text())]
        except (OSError, ValueError):  # "max"
            continue
    return min(limits)


@cache
def commit() -> str:
    """Returns the commit of kapp's checkout, with "+" if files have changed.

    Outside a checkout it is the value of the environment variable KAPP_COMMIT, or "". The value is read once
    per process, since the checkout may change during a long run.
    """
    git = ["git", "-C", str(Path(kapp.__file__).parent)]
    try:
        head, changes = (
            subprocess.run([*git, *arguments], capture_output=True, text=True, timeout=10, check=True).stdout
            for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("KAPP_COMMIT", "")
    return head.strip() + ("+" if changes.strip() else "")


def versions(*packages: str) -> dict[str, str | None]:
    """Returns the installed version of each package, None for a package that isn't installed."""

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in packages}
