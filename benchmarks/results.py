"""What was measured, and its file rows.csv: one row per repetition."""

import csv
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from kapp import hardware
from kapp.fileio import atomic_file, make_folder


class Contender(NamedTuple):
    """A process that runs a workload."""

    group: str  # "kapp" or a peer; of a scaling benchmark, the curve; of memory, what uses it
    command: str  # `python` is this interpreter
    x: str = ""  # of a scaling benchmark: the value of its quantity


class Repetition(NamedTuple):
    """The cost of one repetition of a workload; the seconds of the first include the start of the process."""

    seconds: float
    cpu_seconds: float = 0.0  # of all threads
    images: int = 0
    peak_bytes: int = 0  # of the process, since it started


Costs = dict[Contender, list[Repetition]]  # the first repetition is the warm-up
CONDITIONS = ("date", "commit", "cpu", "versions", "load_average")
COLUMNS = ("benchmark", *Contender._fields, "repetition", *Repetition._fields, *CONDITIONS)


def conditions() -> list[str]:
    """Where and when a benchmark runs. On a machine with a high load average, times mean little."""
    versions = hardware.versions("keras", "tensorflow", "jax", "torch", "numpy").items()
    listed = ", ".join(f"{name} {version}" for name, version in versions if version)
    load = f"{os.getloadavg()[0]:.2f}"
    return [date.today().isoformat(), hardware.commit(), hardware.processor(), listed, load]


def replace(
    path: Path, benchmark: str, costs: Mapping[Contender, list[Repetition]], conditions: list[str]
) -> None:
    """Write `costs` to the file `path`, instead of the earlier rows of `benchmark`."""
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else [COLUMNS]
    make_folder(path.parent)
    with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(row for row in rows if row[0] != benchmark)
        for contender, repetitions in costs.items():
            for number, cost in enumerate(repetitions):
                writer.writerow([benchmark, *contender, number, *cost, *conditions])
