"""A duel: several ways to do the same work, each a process, take turns."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from kapp.errors import Failure

PATIENCE = 10  # seconds that a side has to end by itself when its work is done
QUOTED = 15  # lines of a dead side's last words
CIFAR10 = 40_000  # training images of an epoch (paper D, section 3), by which one-off costs are told


class Turn(NamedTuple):
    """What a side says of one turn."""

    seconds: float
    processor_seconds: float  # of all its threads
    images: int
    peak_bytes: int  # so far

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


class Spread(NamedTuple):
    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True)
class Taken:
    """What the side `command` took."""

    command: str
    start: Turn  # its seconds are those from the start of the process to the end of the first turn
    turns: list[Turn] = field(default_factory=list)  # after that one, which warms up

    @property
    def rate(self) -> Spread:
        """Images a second."""
        return spread([turn.rate for turn in self.turns])

    @property
    def seconds(self) -> Spread:
        """Of a turn."""
        return spread([turn.seconds for turn in self.turns])

    @property
    def one_off(self) -> float:
        """Seconds that come once: imports, building, compiling, what the first turn takes beyond others."""
        return max(0.0, self.start.seconds - self.seconds.median)

    @property
    def one_off_epochs(self) -> float:
        """How many epochs of CIFAR-10 at this side's rate take as long as its one-off costs."""
        return self.one_off * self.rate.median / CIFAR10

    @property
    def peak_bytes(self) -> int:
        return self.turns[-1].peak_bytes

    @property
    def busy_cores(self) -> float:
        return median(turn.processor_seconds / turn.seconds for turn in self.turns)


def ratio(ours: Taken, theirs: Taken) -> Spread:
    """How many times as fast as `theirs` `ours` is, turn by turn."""
    return spread([mine.rate / other.rate for mine, other in zip(ours.turns, theirs.turns)])


def best(sides: Sequence[Taken]) -> Taken:
    """The fastest."""
    return max(sides, key=lambda side: side.rate.median)


def measure(
    commands: Sequence[str], turns: int, say: Callable[[str], object] = print, at_once: bool = False
) -> list[Taken]:
    """Start each command and have them take turns, A B C A B C ..., after a first one each to warm up.

    Args:
        commands: such as "KERAS_BACKEND=jax python -m benchmarks.ways.kapp_fit linear_3"; python is this one.
        say: is given a line for each side that is ready.
        at_once: start them side by side, where what they take once isn't asked for.

    Raises:
        Failure: a side died, with the end of what it said.
    """
    with ExitStack() as stack:
        sides: list[Side] = []
        taken: list[Taken] = []

        def start(command: str) -> None:
            sides.append(stack.enter_context(Side(command)))

        def await_first(side: Side) -> None:
            taken.append(Taken(side.command, side.first()))
            say(f"ready after {taken[-1].start.seconds:.1f} s: {side.command}")

        if at_once:
            for command in commands:
                start(command)
            for side in sides:
                await_first(side)
        else:
            for command in commands:  # one after another: none slows down another's start
                start(command)
                await_first(sides[-1])
        for _ in range(turns):
            for side, its in zip(sides, taken):
                its.turns.append(side.turn())
    return taken


class Side:
    """The process of `command`, until the block ends."""

    def __init__(self, command: str):
        self.command = command
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed at the end)
        words, environment = parse(command)
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            words,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,  # Ctrl-C is ours to handle; and whom it starts ends with it
        )

    def first(self) -> Turn:
        """The turn that it does unasked; its seconds are counted from the start of the process."""
        turn = self._answer()
        return turn._replace(seconds=time.perf_counter() - self._started)

    def turn(self) -> Turn:
        try:
            self._pipe("stdin").write("\n")
            self._pipe("stdin").flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        """End it: by the end of its input where all went well, or else by force."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._pipe("stdin").close()
            self._process.wait(0 if error else PATIENCE)
        with suppress(ProcessLookupError):  # where it has ended, with all that it started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe("stdout").close()
        self._said.close()

    def _pipe(self, name: str) -> Any:
        return getattr(self._process, name)

    def _answer(self) -> Turn:
        line = self._pipe("stdout").readline()
        if not line:
            raise self._died()
        return Turn(**json.loads(line))

    def _died(self) -> Failure:
        status = self._process.wait()
        self._said.seek(0)
        last = "".join(self._said.readlines()[-QUOTED:]).rstrip() or "(nothing)"
        return Failure(
            f"this side died with status {status}: {self.command}\nThe end of what it said:\n{last}"
        )


def parse(command: str) -> tuple[list[str], dict[str, str]]:
    """The words of a command line, and the variables that it begins with."""
    words = shlex.split(command)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    while "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
    return [sys.executable if word == "python" else word for word in words], environment
