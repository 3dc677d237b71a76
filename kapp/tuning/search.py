"""A search: trials become tasks of a cluster, and their results go to the sweep folder and to the oracle."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kapp import records
from kapp.cluster import Cluster, Result, Task
from kapp.errors import ConfigError, KappError
from kapp.progress import duration
from kapp.records import Trial
from kapp.sweep_folder import Sweep, best_trial
from kapp.tuning.oracle import Oracle

MAX_CONSECUTIVE_CRASHES = 3  # of trials; then the cause isn't in their settings


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended; its fields are those of `Trial`. A worker sends it, so its values are checked.

    Args:
        number: of the trial.
        status: failed: its settings can't be trained.
        score: the best validation accuracy, of a finished trial.
        message: why it failed.
    """

    number: int
    status: Literal["finished", "failed"]
    score: float | None = None
    best_epoch: float | None = None
    seconds: float | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        if (self.score is not None) != (self.status == "finished"):
            raise ValueError("a finished trial has a score, and a failed one has none")
        if self.score is not None and not 0 <= self.score <= 1:
            raise ValueError(f"the score is {self.score}, not from 0 to 1")
        for name in ("best_epoch", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}, not a finite number from 0")


class Search:
    """Proposes trials, runs them and records their results, until the oracle has no more.

    Args:
        sweep: the folder, with the trials of an earlier process where there are any.
        oracle: new; it is restored to the trials of `sweep`.
        make_task: the task that trains a trial and returns its `TrialResult` as JSON values. It also records
            the trial's network and settings. A ConfigError is the reason of a failed trial.
    """

    def __init__(self, sweep: Sweep, oracle: Oracle, make_task: Callable[[Trial], Task]):
        oracle.restore(sweep.trials())
        self.trials = oracle.trials
        self._sweep, self._oracle, self._make_task = sweep, oracle, make_task
        self._waiting = [trial for trial in self.trials if trial.status == "running"]
        self._running: dict[str, Trial] = {}  # by the names of their tasks
        self._crashes = 0  # of the latest trials
        self._start = time.monotonic() - max((t.ended_at or t.created_at for t in self.trials), default=0.0)
        self._start_of_rate = (self._elapsed(), self._ended())

    def run(self, cluster: Cluster) -> None:
        """Run trials on `cluster` until the search has ended.

        Raises:
            KappError: several trials in a row crashed; or one met a damaged file, or a full disk.
        """
        self._submit(cluster)
        for result in cluster.completed():
            self._end_task(result)
            self._submit(cluster)

    def _submit(self, cluster: Cluster) -> None:
        """Start trials while workers are free."""
        while len(self._running) < cluster.size:
            trial = self._waiting.pop(0) if self._waiting else self._create_trial()
            if trial is None:
                return
            self._sweep.write_trial(trial)
            try:
                task = self._make_task(trial)
            except ConfigError as error:  # such as too many layers for the budget
                self._end(trial, TrialResult(trial.number, "failed", message=str(error)))
                continue
            self._running[task.name] = trial
            cluster.submit(task)

    def _create_trial(self) -> Trial | None:
        """A new trial; None: the search has ended, or a trial that runs has to end first."""
        trial = self._oracle.create_trial()
        if not isinstance(trial, Trial):
            return None
        trial.created_at = self._elapsed()
        return trial

    def _end_task(self, result: Result) -> None:
        trial = self._running.pop(result.task)
        trial.worker = result.worker
        ended, error = None, result.error
        if result.is_environment:  # no failure of the trial: it is still to be trained
            raise KappError(
                f"{result.task}: {error} The same command resumes with this trial, and trains it again where "
                f"you remove {self._sweep.run_folder(trial.run)}."
            )
        if error is None:
            try:
                ended = records.from_json(TrialResult, result.value, f"the result of {result.task}")
                if ended.number != trial.number:
                    raise KappError(f"the result of {result.task} is of trial {ended.number}.")
            except KappError as wrong:
                ended, error = None, str(wrong)
        if ended is not None:
            self._crashes = 0
            self._end(trial, ended)
            return
        self._crashes += 1
        self._end(trial, TrialResult(trial.number, "failed", message=error))
        if self._crashes == MAX_CONSECUTIVE_CRASHES:
            raise KappError(
                f"{self._crashes} trials in a row crashed, the last: {error} "
                f"See {self._sweep.folder}; the same command resumes with the next trial."
            )

    def _end(self, trial: Trial, result: TrialResult) -> None:
        for each in dataclasses.fields(result):
            setattr(trial, each.name, getattr(result, each.name))
        trial.end_order, trial.num_created_at_end = self._ended(), len(self.trials)
        trial.ended_at = self._elapsed()
        self._sweep.write_trial(trial)  # before the oracle has the score, so that a resumed search has it too
        self._oracle.end_trial(trial.number, trial.score)
        self._delete_weights()
        self._print(trial)

    def _delete_weights(self) -> None:
        """Keep the network of the best trial alone, but all of hyperband, which may continue any trial."""
        if all(trial.epochs == self._oracle.epochs for trial in self.trials):
            self._sweep.delete_weights()

    def _print(self, trial: Trial) -> None:
        """Print the result of a trial and the time left."""
        best, planned, ended = best_trial(self.trials), self._oracle.max_trials, self._ended()
        failed, score = f"failed: {trial.message}", f"{trial.score or 0:.1%} of validation images"
        line = f"trial {trial.number}: {failed if trial.score is None else score}"
        if best and best.score:
            line += f", best {best.score:.1%} (trial {best.number})"
        if planned:
            start, ended_before = self._start_of_rate
            seconds_per_trial = (self._elapsed() - start) / max(1, ended - ended_before)
            line += f"; {ended} of {planned} ended, {duration(seconds_per_trial * (planned - ended))} left"
        else:
            line += f"; {ended} ended"
        print(line, flush=True)

    def _ended(self) -> int:
        return sum(trial.end_order is not None for trial in self.trials)

    def _elapsed(self) -> float:
        return time.monotonic() - self._start
