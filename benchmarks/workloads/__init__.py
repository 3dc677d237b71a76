"""The workloads of contenders: `python -m benchmarks.workloads.kapp fit --help`.

Each module belongs to a library, and each public function of it is a workload.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

BATCH_SIZE = 128
CLASSES = tuple("abcdefghij")
STATUS = Path("/proc/self/status")
Precision = Literal["float32", "mixed_bfloat16"]


def main(*workloads: Callable[..., None]) -> None:
    """Run the workload that the command line names."""
    by_name = {workload.__name__: workload for workload in workloads}
    tyro.extras.subcommand_cli_from_dict(by_name, config=(tyro.conf.FlagCreatePairsOff,))


def random_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images of CIFAR-10's shape: the time of a step doesn't depend on their content.

    Returns:
        Images, uint8 (count, 32, 32, 3), and labels, int32 (count,).
    """
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, random.integers(0, len(CLASSES), count, np.int32)


def serve(run: Callable[[], object], images: int, before: Callable[[], object] = lambda: None) -> None:
    """Run a repetition, then one for each line of standard input; print the cost of each as a line of JSON.

    Args:
        run: one repetition; it may return its seconds, if its end isn't to be counted.
        images: in one repetition.
        before: runs before each repetition but the first and isn't counted: a training step that brings back
            the memory pages and caches of a process that has waited.
    """
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print goes to standard error
    while True:
        started, cpu = time.perf_counter(), time.process_time()
        returned = run()
        seconds = returned if isinstance(returned, float) else time.perf_counter() - started
        cost = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "images": images}
        print(json.dumps(cost | {"peak_bytes": peak_bytes()}), file=output, flush=True)
        if not sys.stdin.readline():
            return
        before()


def peak_bytes() -> int:
    """The peak memory of this process so far."""
    if STATUS.is_file():  # on Linux, getrusage includes the memory of the parent process at the fork
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
