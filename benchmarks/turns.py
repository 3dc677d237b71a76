"""One side of a duel: a process that does one turn of its work each time it's told to."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")


def serve(turn: Callable[[], object], images: int, wake: Callable[[], object] = lambda: None) -> None:
    """Run `turn` once, to warm up, then once a line of standard input; answer each time with a line of JSON.

    Args:
        turn: may return its seconds, where what it ends with isn't to be counted.
        images: how many a turn works through.
        wake: is run before each turn, uncounted: a step that brings back the pages and caches of a process
            that has waited for the others' turns.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints, natively too, is no answer
    first = True
    while True:
        if not first:
            wake()
        first = False
        clock, processor = time.perf_counter(), time.process_time()
        told = turn()
        seconds = told if isinstance(told, float) else time.perf_counter() - clock
        taken = {"seconds": seconds, "processor_seconds": time.process_time() - processor}
        print(json.dumps({**taken, "images": images, "peak_bytes": peak_bytes()}), file=answers, flush=True)
        if not sys.stdin.readline():
            return


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    if STATUS.is_file():
        # Of this program alone: what getrusage says on Linux includes what its parent held when it forked.
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
