"""How long whole commands take, each time in a new process."""

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import results
from benchmarks.duel import QUOTED, Taken, Turn, parse
from benchmarks.results import Line
from kapp.errors import Failure


def timed(command: str, status: int = 0) -> tuple[Turn, str]:
    """Run `command` to its end: what it took, and what it printed.

    Raises:
        Failure: it ended with another status.
    """
    words, environment = parse(command)
    before, clock = _processor_seconds(), time.perf_counter()
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    seconds = time.perf_counter() - clock
    if done.returncode != status:
        last = "\n".join(done.stderr.splitlines()[-QUOTED:])
        raise Failure(f"this command ended with status {done.returncode}: {command}\n{last}")
    return Turn(seconds, _processor_seconds() - before, 0, 0), done.stdout


@dataclass(frozen=True)
class Command:
    """A command that ends by itself."""

    name: str
    what: str
    command: str
    status: int
    reach: float  # seconds
    sides = 1

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]:
        taken = [timed(self.command, self.status)[0] for _ in range(turns + 1)]
        return results.lines(self.name, "ours", Taken(self.command, taken[0], taken[1:]))


@dataclass(frozen=True)
class Starts:
    """The first start of a recipe with nothing cached, and the second, each until its first training step has
    ended: on CIFAR-10 where KAPP_DATA_DIR has it prepared, otherwise on the embedded shapes."""

    name: str = "starts"
    what: str = "train until its first step has ended, the data cached"
    command: str = "python -m benchmarks.ways.start --step 1 train --dataset"
    reach: float = 10.0  # seconds, of the second
    share: float = 0.75  # and of what the first takes: well below
    sides = 4

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]:
        taken: dict[str, list[Turn]] = {"first": [], "second": []}
        prepared = Path(os.environ.get("KAPP_DATA_DIR", "")).resolve() / "cifar10"
        command = f"{self.command} {'cifar10' if prepared.is_dir() else 'shapes'}"
        for _ in range(turns + 1):
            with tempfile.TemporaryDirectory() as folder:
                if prepared.is_dir():
                    (Path(folder) / "cifar10").symlink_to(prepared)
                for start, its in taken.items():
                    turn, _ = timed(f"KAPP_DATA_DIR={folder} {command} --out {folder}/{start}")
                    its.append(turn)
            say(", ".join(f"{start} start {its[-1].seconds:.1f} s" for start, its in taken.items()))
        return [
            line
            for start, its in taken.items()
            for line in results.lines(self.name, start, Taken(command, its[0], its[1:]))
        ]


COMMANDS = (
    Command("help", "`distill --help`", "python -m kapp.recipes.distill --help", 0, 0.5),
    Command("wrong_flag", "a wrong flag", "python -m kapp.recipes.distill --techer deep_resnet", 2, 0.5),
    Starts(),
)


def _processor_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
