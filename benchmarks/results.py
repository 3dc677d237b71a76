"""rows.csv: what was measured, a line a turn."""

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.duel import Taken, Turn
from kapp import machine
from kapp.files import make_folder, replacing

VERSIONS = ("keras", "tensorflow", "jax", "torch", "numpy")


@dataclass(frozen=True)
class Line:
    row: str  # of the table, a growth or a command: what `python -m benchmarks NAME` measures
    role: str  # ours or a peer's name; in a growth, whose curve it is; of memory, what holds it
    command: str
    at: str  # in a growth: of what quantity
    turn: int  # 0 is the first, which warms up: its seconds are those since the process was started
    seconds: float
    processor_seconds: float
    images: int
    peak_bytes: int
    date: str = ""
    commit: str = ""
    processor: str = ""
    versions: str = ""
    load: float = 0.0  # of the machine, over the minute before

    @property
    def taken(self) -> Turn:
        return Turn(self.seconds, self.processor_seconds, self.images, self.peak_bytes)


def lines(row: str, role: str, taken: Taken, at: object = "") -> list[Line]:
    """What a side took."""
    return [
        Line(row, role, taken.command, str(at), number, *turn)
        for number, turn in enumerate([taken.start, *taken.turns])
    ]


def sides(measured: Iterable[Line]) -> list[tuple[str, str, Taken]]:
    """The other way round: role, `at` and what the side took, in the order in which they stand."""
    found: dict[tuple[str, str, str], Taken] = {}
    for line in measured:
        key = line.role, line.at, line.command
        if line.turn == 0:
            found[key] = Taken(line.command, line.taken)
        else:
            found[key].turns.append(line.taken)
    return [(role, at, taken) for (role, at, _), taken in found.items()]


def read(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    kinds: dict[str, Any] = {field.name: field.type for field in fields(Line)}
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Line(**{name: kinds[name](value) for name, value in row.items()}) for row in csv.DictReader(file)
        ]


def replace_row(path: Path, row: str, measured: Sequence[Line], load: float) -> None:
    """Write the lines of `row`, with where they were measured, in place of those that the file had."""
    where = (date.today().isoformat(), machine.commit(), machine.processor(), versions(), round(load, 2))
    kept = [line for line in read(path) if line.row != row]
    make_folder(path.parent)
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Line))
        writer.writerows(astuple(line) for line in kept)
        writer.writerows([*astuple(line)[: -len(where)], *where] for line in measured)


def load() -> float:
    """Of the machine, over the last minute: a busy one's figures say little."""
    return os.getloadavg()[0]


@cache
def versions() -> str:
    known = machine.versions(*VERSIONS)
    return ", ".join(f"{name} {version}" for name, version in known.items() if version)
