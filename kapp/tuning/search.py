"""A search: sends trials to workers and takes their results; no trial is lost or counted twice."""

import dataclasses
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from kapp.progress import duration
from kapp.records import Setting, Trial
from kapp.run_folder import Run
from kapp.sweep_folder import Sweep, best_trial
from kapp.tuning.oracle import Oracle

MAX_ATTEMPTS = 3  # of a trial whose process ends, or that fails with an unexpected error
MAX_CONSECUTIVE_CRASHES = 3  # of trials; then the cause isn't in their settings


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended; its fields are those of `Trial`.

    Args:
        status: failed: its settings can't be trained; crashed: any other error.
        score: the best validation accuracy, of a finished trial.
        message: why it failed or crashed.
    """

    status: Literal["finished", "failed", "crashed"]
    score: float | None = None
    best_epoch: float | None = None
    seconds: float | None = None
    parameters: int | None = None
    network: str | None = None
    config: dict[str, Setting] = field(default_factory=dict)
    message: str | None = None

    def __post_init__(self) -> None:
        if self.status == "finished" and self.score is None:
            raise ValueError("a finished trial has a score")


class Search:
    """A search that the threads of several workers share.

    Args:
        sweep: the folder, with the trials of an earlier process where there are any.
        oracle: new; it is restored to the trials of `sweep`.
    """

    def __init__(self, sweep: Sweep, oracle: Oracle):
        oracle.restore(sweep.trials())
        self.trials = oracle.trials
        self.failure: str | None = None  # why the search can't continue
        self._sweep, self._oracle = sweep, oracle
        self._waiting = [trial for trial in self.trials if trial.status == "running"]
        self._running: dict[str, Trial] = {}  # by worker
        self._attempts: Counter[int] = Counter()
        self._crashes = 0
        self._changed = threading.Condition()
        self._start = time.monotonic() - max((t.ended_at or t.created_at for t in self.trials), default=0.0)
        self._start_of_rate = (self._elapsed(), self._ended())
        self._stopped = False
        if not self._waiting and isinstance(trial := self._create_trial(), Trial):
            self._waiting.append(trial)  # otherwise `ended` is true from the start

    def next_trial(self, worker: str, is_connected: Callable[[], bool] = lambda: True) -> Trial | None:
        """The next trial for `worker`, as soon as there is one.

        Args:
            is_connected: whether this connection is still the worker's; `release` wakes a call to check it.

        Returns:
            A trial; None: the search has ended, or the connection has.
        """
        with self._changed:
            if is_connected():
                self._release(worker)
            while self.failure is None and is_connected():
                trial = self._waiting.pop(0) if self._waiting else self._create_trial()
                if isinstance(trial, Trial):
                    trial.worker = worker
                    self._running[worker] = trial
                    self._sweep.write_trial(trial)
                    return trial
                if trial == "stop" and not self._running:
                    break
                self._changed.wait()
            self._changed.notify_all()
            return None

    def end_trial(self, worker: str, number: int, result: TrialResult) -> None:
        """Take the result of trial `number`, unless the trial isn't `worker`'s any more."""
        with self._changed:
            trial = self._running.get(worker)
            if trial is None or trial.number != number:
                return
            if result.status == "crashed":
                self._release(worker, result.message)
                return
            self._crashes = 0
            del self._running[worker]
            self._end(trial, result)

    def release(self, worker: str) -> None:
        """Make the trial of `worker`, which has ended, free for another."""
        with self._changed:
            self._release(worker)
            self._changed.notify_all()

    def fail(self, why: str) -> None:
        """End the search with an error."""
        with self._changed:
            self.failure = self.failure or why
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for `seconds` at most; return whether the search has ended."""
        with self._changed:
            self._changed.wait(seconds)
            return self.failure is not None or self.ended

    @property
    def ended(self) -> bool:
        """Whether all trials have ended, and the oracle proposes no other."""
        return not self._running and not self._waiting and self._stopped

    def _create_trial(self) -> Trial | str:
        trial = self._oracle.create_trial()
        if isinstance(trial, Trial):
            trial.created_at = self._elapsed()
        else:
            self._stopped = trial == "stop"
        return trial

    def _release(self, worker: str, message: str | None = None) -> None:
        """Queue the trial of `worker` again, or fail it after its last attempt."""
        trial = self._running.pop(worker, None)
        if trial is None:
            return
        self._attempts[trial.number] += 1
        if self._attempts[trial.number] < MAX_ATTEMPTS:
            self._waiting.append(trial)
            why = message or f"worker {worker} ended"
            print(f"trial {trial.number}: {why}; it is run again", file=sys.stderr, flush=True)
        else:
            message = message or f"its process ended {MAX_ATTEMPTS} times"
            self._end(trial, TrialResult("failed", message=message))
            self._crashes += 1
            if self._crashes == MAX_CONSECUTIVE_CRASHES:
                self.failure = (
                    f"{self._crashes} trials in a row crashed, the last: {message} "
                    f"See {self._sweep.folder}; the same command resumes with the next trial."
                )
        self._changed.notify_all()

    def _end(self, trial: Trial, result: TrialResult) -> None:
        for each in dataclasses.fields(result):
            setattr(trial, each.name, getattr(result, each.name))
        trial.end_order, trial.started, trial.ended_at = self._ended(), len(self.trials), self._elapsed()
        self._sweep.write_trial(trial)  # before the oracle has the score, so that a resumed search has it too
        self._oracle.end_trial(trial.number, trial.score)
        self._delete_weights()
        self._print(trial)
        self._changed.notify_all()

    def _delete_weights(self) -> None:
        """Keep the network of the best trial alone, but all of hyperband, which may continue any trial."""
        best = best_trial(self.trials)
        if any(trial.epochs != self._oracle.epochs for trial in self.trials) or best is None:
            return
        for trial in self.trials:
            folder = self._sweep.run_folder(trial.run)
            if trial.end_order is not None and trial is not best and (folder / "config.json").is_file():
                Run(folder).delete_weights()

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
