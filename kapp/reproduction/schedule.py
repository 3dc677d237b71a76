"""Runs a plan: what is ready and fits into the budget, in the order of its value."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kapp import cli
from kapp.cluster import Cluster, Task
from kapp.errors import ConfigError
from kapp.progress import duration
from kapp.recipes import distill, train, transfer
from kapp.reproduction import plan
from kapp.reproduction.paper_rows import RunSettings
from kapp.reproduction.plan import PlannedRun, load_dataset
from kapp.run_folder import modification_times

MODULES = {"train": train, "distill": distill, "transfer": transfer}
MIN_SECONDS = 60.0  # of the runs that the pace is measured by
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@dataclass
class Clock:
    """The time that is left, by estimates that are corrected by the runs that have ended.

    Args:
        budget: seconds; None: no end.
    """

    budget: float | None
    started: float = field(default_factory=time.monotonic)
    estimated: float = 0.0
    spent: float = 0.0

    @property
    def pace(self) -> float:
        """How many times longer runs take than estimated."""
        return self.spent / self.estimated if self.estimated > 0 else 1.0

    def record(self, estimated: float, spent: float) -> None:
        """Count a run that has ended, unless it is too short to measure the speed."""
        if estimated >= MIN_SECONDS:
            self.estimated += estimated
            self.spent += spent

    def fits(self, seconds: float) -> bool:
        """Whether a run of estimated `seconds` ends within the budget."""
        if self.budget is None:
            return True
        return time.monotonic() - self.started + self.pace * seconds <= self.budget


class Schedule:
    """The runs of a plan that wait, and those that run.

    Args:
        runs: the unfinished ones, dependencies first.
        workers: what trains them.
        clock: of the budget.
    """

    def __init__(self, runs: Sequence[PlannedRun], workers: Cluster, clock: Clock) -> None:
        self._count, self._waiting = len(runs), list(runs)
        self._running: dict[str, tuple[PlannedRun, float]] = {}
        self._workers, self._clock = workers, clock

    def run(self, report: Callable[[], None]) -> list[PlannedRun]:
        """Train the runs, and call `report` after each.

        Returns:
            The runs that didn't fit into the budget.
        """
        load_dataset.cache_clear()  # a training loads its own
        self._start_ready()
        for result in self._workers.completed():
            run, started = self._running.pop(result.task)
            run.error = result.error
            if result.error is None and not plan.find(run):
                run.error = f"its run folder {result.value} isn't the expected {run.folder}"
            if run.error:
                print(f"{run.name} failed: {run.error}", flush=True)
            else:
                self._clock.record(run.seconds_left or 0.0, time.monotonic() - started)
            report()
            load_dataset.cache_clear()
            self._start_ready()
        return self._waiting

    def _start_ready(self) -> None:
        """Submit what is ready and fits, as many as there are workers."""
        for run in list(self._waiting):
            failed = [need for need in run.needs if need.error]
            if failed:
                run.error = f"it needs {failed[0].name}, which failed"
                self._waiting.remove(run)
            elif len(self._running) < self._workers.size and self._is_ready(run):
                self._submit(run)

    def _is_ready(self, run: PlannedRun) -> bool:
        return all(need.is_finished for need in run.needs) and self._clock.fits(run.seconds_left or 0.0)

    def _submit(self, run: PlannedRun) -> None:
        self._waiting.remove(run)
        self._running[run.name] = (run, time.monotonic())
        print(self._line(run), flush=True)
        if run.folder is None:  # of a transfer whose source wasn't trained when the plan was made
            plan.find(run)
        folder = run.folder
        arguments = task_arguments(run.settings)
        task = Task(run.name, train_run, arguments, lambda: modification_times(folder) if folder else None)
        self._workers.submit(task)

    def _line(self, run: PlannedRun) -> str:
        """The line at the start of `run`."""
        words = f"run {self._count - len(self._waiting)} of {self._count}: {run.name}"
        if run.seconds_left is None:
            return words
        waiting = sum(each.seconds_left or 0.0 for each in self._waiting)
        pace = self._clock.pace
        left = pace * (run.seconds_left + waiting / self._workers.size)
        return f"{words}, about {duration(pace * run.seconds_left)}; whole plan: {duration(left)} left"


def train_run(recipe: str, config: dict[str, Any]) -> str:
    """Train one run, or find it; called by the cluster.

    Args:
        recipe: its name.
        config: the recipe's settings, by the names of their flags.

    Returns:
        The run folder.
    """
    module: Any = MODULES[recipe]
    flags = cli.as_flags(module.Config, config, "the plan")
    return str(module.run(cli.parse(module.Config, flags).resolved()).folder)


def task_arguments(settings: RunSettings) -> dict[str, Any]:
    """The arguments of `train_run` for the run of `settings`."""
    recipe = next(name for name, module in MODULES.items() if isinstance(settings, module.Settings))
    return {"recipe": recipe, "config": cli.as_json(settings)}


def parse_duration(text: str) -> float:
    """Seconds in a text such as 6h, 90min or 2d.

    Raises:
        ConfigError: another text.

    Example:

    >>> parse_duration("1.5h")
    5400.0
    """
    match = re.fullmatch(r"(\d+\.?\d*)\s*(s|m|min|h|d)", text.strip())
    if not match or not float(match[1]):
        raise ConfigError(f"--budget is {text!r}: it must be a time such as 6h, 90min or 2d.")
    return float(match[1]) * UNITS[match[2]]
