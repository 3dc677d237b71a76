"""Runs contenders, which repeat their workloads in turn, and commands, which end on their own."""

import csv
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.results import Contender, Costs, Repetition
from kapp.errors import KappError

EXIT_SECONDS = 10  # a contender's time to exit after its last repetition
ERROR_LINES = 15  # quoted of a failed process
POLL_SECONDS = 0.1  # between two looks at a file
Report = Callable[[str], object]


def compare(
    contenders: Sequence[Contender], repetitions: int, report: Report = print, start_together: bool = False
) -> Costs:
    """Measure contenders: a warm-up of each, then A B C A B C ...

    Args:
        report: receives a line for each contender that is ready.
        start_together: start all processes at the same time: faster, but their startups compete.

    Raises:
        KappError: a contender failed; the message ends with its standard error.
    """
    costs: Costs = {}
    processes: list[Iterator[Repetition]] = []
    with ExitStack() as stack:
        for contender in contenders:
            processes.append(stack.enter_context(process(contender.command)))
            if start_together and len(processes) < len(contenders):
                continue
            # Those that have started and aren't measured yet: this one, or all.
            for ready in contenders[len(costs) : len(processes)]:
                costs[ready] = [next(processes[len(costs)])]
                report(f"ready after {costs[ready][0].seconds:.1f} s: {ready.command}")
        for _ in range(repetitions):
            for each, measured in zip(processes, costs.values()):
                measured.append(next(each))
    return costs


@contextmanager
def process(command: str) -> Iterator[Iterator[Repetition]]:
    """Run the process of a contender until the `with` block ends, and kill it then, with all that it started.

    Returns:
        An iterator that runs a repetition for each item. The seconds of the first begin with the process.
    """
    words, environment = parse(command)
    started, pipe, wait_seconds = time.perf_counter(), subprocess.PIPE, 0
    with tempfile.TemporaryFile("w+") as stderr:
        child: Any = subprocess.Popen(
            words, env=environment, stdin=pipe, stdout=pipe, stderr=stderr, text=True, start_new_session=True
        )  # Ctrl-C doesn't reach its session

        def repeat() -> Iterator[Repetition]:
            for number in count():
                if not (line := child.stdout.readline()):
                    status = child.wait()
                    stderr.seek(0)
                    raise _failure(command, status, stderr.read())
                cost = Repetition(**json.loads(line))
                yield cost if number else cost._replace(seconds=time.perf_counter() - started)
                with suppress(BrokenPipeError):
                    print(file=child.stdin, flush=True)

        try:
            yield repeat()
            wait_seconds = EXIT_SECONDS
        finally:
            with suppress(OSError, subprocess.TimeoutExpired):
                child.stdin.close()
                child.wait(wait_seconds)
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()


def run(command: str, status: int = 0) -> tuple[Repetition, str]:
    """Run a command to its end.

    Returns:
        Its cost and its standard output.

    Raises:
        KappError: it didn't exit with `status`.
    """
    words, environment = parse(command)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.run(words, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != status:
        raise _failure(command, process.returncode, process.stderr)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Repetition(seconds, cpu_seconds), process.stdout


def follow(command: str, path: Path) -> Iterator[tuple[float, dict[str, str]]]:
    """Run a command to its end, and yield each row of its CSV file `path` when it is written.

    Returns:
        The seconds since the start of the process, and the row.

    Raises:
        KappError: the command failed.
    """
    words, environment = parse(command)
    with tempfile.TemporaryFile("w+") as stderr:
        started, yielded = time.perf_counter(), 0
        child = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            has_ended = False
            while not has_ended:
                time.sleep(POLL_SECONDS)
                has_ended = child.poll() is not None  # before the file: its last row is read, too
                seconds = time.perf_counter() - started
                rows = _complete_rows(path)
                yield from ((seconds, row) for row in rows[yielded:])
                yielded = len(rows)
        finally:
            child.kill()
            child.wait()
        if child.returncode:
            stderr.seek(0)
            raise _failure(command, child.returncode, stderr.read())


def _complete_rows(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def parse(command: str) -> tuple[list[str], dict[str, str]]:
    """The words of a command and its environment; variables stand at its beginning."""
    words, environment = shlex.split(command), {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    while "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
    return [sys.executable if word == "python" else word for word in words], environment


def _failure(command: str, status: int, stderr: str) -> KappError:
    last = "\n".join(stderr.splitlines()[-ERROR_LINES:]) or "(nothing)"
    return KappError(f"this command failed with status {status}: {command}\nThe end of its errors:\n{last}")
