"""Tasks and a driver for the tests of kapp/cluster.py. Workers import this module, so it imports little."""

import os
import signal
import sys
import time
from pathlib import Path

from kapp import cluster, progress


def describe(**values):
    """Returns what the worker is and what it received."""
    names = ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
    return {"pid": os.getpid(), "folder": os.getcwd(), **{n: os.environ.get(n) for n in names}, **values}


def wait_for_files(folder, count):
    """Adds a file to `folder`, and ends when it has `count` files; returns as `describe`."""
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < count:
        time.sleep(0.02)
    return describe()


def fail(message):
    raise ValueError(message)


def write_lines(text):
    """Writes by Python and by the file descriptors, as native code does."""
    print(f"{text} to stdout")
    print(f"{text} to stderr", file=sys.stderr)
    sys.stdout.flush()
    os.write(1, f"{text} to 1\n".encode())
    os.write(2, f"{text} to 2\n".encode())


def die(path, times):
    """Kills its process, but only that many times; returns how often it did."""
    deaths = len(Path(path).read_text()) if os.path.exists(path) else 0
    if deaths < times:
        Path(path).write_text("x" * (deaths + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return deaths


def stop(path, times):
    """Stops its process, as a machine that hangs, but only that many times; returns how often it did."""
    stops = len(Path(path).read_text()) if os.path.exists(path) else 0
    if stops < times:
        Path(path).write_text("x" * (stops + 1))
        os.kill(os.getpid(), signal.SIGSTOP)
    return stops


def work_slowly(path, steps, seconds):
    """Takes `seconds` per step, and shows each: the first half in the file `path`, the others by its
    heartbeat."""
    for step in range(steps):
        if step < steps // 2:
            Path(path).write_text(str(step))
        progress.beat()
        time.sleep(seconds)
    return os.getpid()


def run_forever(path):
    """Computes without end, like a training."""
    Path(path).write_text(str(os.getpid()))
    while True:
        sum(range(1000))


def driver(folder):
    """Two workers with a task that never ends."""
    with cluster.local(2, folder) as workers:
        for i in range(2):
            workers.submit(cluster.Task(f"task {i}", run_forever, {"path": str(folder / f"{i}.pid")}))
        print(list(workers.completed()))


if __name__ == "__main__":
    try:
        driver(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
