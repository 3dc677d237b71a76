"""All that can be measured, by name, in the order of the page."""

from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.commands import COMMANDS
from benchmarks.growth import GROWTHS
from benchmarks.memory import Memory
from benchmarks.results import Line
from benchmarks.rows import ROWS
from kapp.errors import unknown


class Experiment(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def sides(self) -> int:
        """How long it takes, in units of a side of a duel."""
        ...

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]: ...


ALL: tuple[Experiment, ...] = (*ROWS, *COMMANDS, Memory(), *GROWTHS)


def chosen(names: Sequence[str]) -> list[Experiment]:
    """Those of `names`, or all.

    Raises:
        WrongValue: an unknown name.
    """
    known = {experiment.name: experiment for experiment in ALL}
    for name in names:
        if name not in known:
            raise unknown("measurement", name, known)
    return [known[name] for name in names or known]
