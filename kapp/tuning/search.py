"""A search under way: hands out trials, takes their scores, loses none and counts none twice."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kapp.runs import Run
from kapp.sweeps import Sweep, Trial, best
from kapp.tuning.oracle import Oracle, Proposal, new_trial
from kapp.words import duration

TRIES = 3  # of a trial whose process ended or that failed in an unforeseen way
BROKEN_IN_A_ROW = 3  # such trials, after which the fault isn't theirs


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Args:
        status: finished; failed: its settings don't train; broken: anything else went wrong.
        score: the best validation accuracy.
        message: why it failed.
    """

    status: str
    score: float | None = None
    best_epoch: float | None = None
    seconds: float | None = None
    parameters: int | None = None
    network: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    message: str | None = None


class Search:
    """Shared by the threads that speak with the workers, one a worker.

    Args:
        sweep: holds each trial from the moment it's handed out; what it holds of an earlier process is gone
            on with.
        oracle: new; it is brought to where the sweep stands.
        epochs: of a whole training.
        trials: how many there will be, as far as that is known.
        include_default: trial 0 is of the recipe's own settings.
    """

    def __init__(
        self,
        sweep: Sweep,
        oracle: Oracle,
        *,
        epochs: int,
        trials: int | None,
        include_default: bool,
    ):
        self._sweep, self._oracle, self._epochs = sweep, oracle, epochs
        self._planned, self._include_default = trials, include_default
        self.trials = sweep.trials()
        missing = oracle.restore(self.trials)
        self.trials = sorted([*self.trials, *missing], key=lambda trial: trial.number)
        self._waiting = [trial for trial in self.trials if trial.status == "running"]
        for trial in missing:
            trial.epochs = trial.epochs or epochs
        self._running: dict[str, Trial] = {}
        self._tries: Counter[int] = Counter()
        self._broken = 0
        self._changed = threading.Condition()
        self._began = time.monotonic() - max((t.told or t.asked for t in self.trials), default=0.0)
        self._counted_from = (self._elapsed(), self._ended())
        self._stopped = False
        self.failure: str | None = None  # why the search can't go on
        if not self._waiting and isinstance(first := self._next(), Trial):  # so that it knows if it has ended
            self._waiting.append(first)

    def ask(self, worker: str, here: Callable[[], bool] = lambda: True) -> Trial | None:
        """The next trial for `worker`, as soon as there's one; None: the search has ended, or who asked isn't
        `here` any more: another has come in its place, and then it was told to be `lost`."""
        with self._changed:
            if here():
                self._take_back(worker)
            while self.failure is None and here():
                trial = self._next()
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

    def tell(self, worker: str, number: int, outcome: Outcome) -> None:
        """`worker` ended trial `number`; nothing is counted that isn't its trial any more."""
        with self._changed:
            trial = self._running.get(worker)
            if trial is None or trial.number != number:
                return
            if outcome.status == "broken":
                self._take_back(worker, outcome)
                return
            self._broken = 0
            del self._running[worker]
            self._end(trial, outcome)

    def lost(self, worker: str) -> None:
        """`worker` is gone: what it trained is handed out again."""
        with self._changed:
            self._take_back(worker)
            self._changed.notify_all()

    def fail(self, why: str) -> None:
        """End the search: it can't go on."""
        with self._changed:
            self.failure = self.failure or why
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for `seconds` at most; returns whether the search has ended."""
        with self._changed:
            self._changed.wait(seconds)
            return self.failure is not None or self.ended

    @property
    def ended(self) -> bool:
        """Whether every trial there will be has ended."""
        return not self._running and not self._waiting and self._stopped

    def _next(self) -> Trial | str:
        """A trial that was taken back, a new one, or "wait" or "stop"."""
        if self._waiting:
            return self._waiting.pop(0)
        proposal = self._oracle.ask()
        if not isinstance(proposal, Proposal):
            self._stopped = proposal == "stop"
            return proposal
        trial = new_trial(len(self.trials), proposal, self.trials, self._epochs)
        trial.default = trial.default or (self._include_default and trial.number == 0)
        trial.asked = self._elapsed()
        self.trials.append(trial)
        return trial

    def _take_back(self, worker: str, outcome: Outcome | None = None) -> None:
        """What `worker` trained is for another, or failed where that was its last try."""
        trial = self._running.pop(worker, None)
        if trial is None:
            return
        self._tries[trial.number] += 1
        if self._tries[trial.number] < TRIES:
            self._waiting.append(trial)
            why = outcome.message if outcome else f"worker {worker} ended"
            print(f"trial {trial.number}: {why}; it is run again", file=sys.stderr, flush=True)
        else:
            why = (outcome and outcome.message) or f"its process ended {TRIES} times"
            self._end(trial, Outcome("failed", message=why))
            self._broken += 1
            if self._broken == BROKEN_IN_A_ROW:
                self.failure = (
                    f"{self._broken} trials in a row broke, the last: {why} "
                    f"See {self._sweep.folder}; the same command goes on with the next."
                )
        self._changed.notify_all()

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        trial.status, trial.score = outcome.status, outcome.score
        trial.best_epoch, trial.seconds, trial.message = outcome.best_epoch, outcome.seconds, outcome.message
        trial.parameters, trial.network, trial.config = outcome.parameters, outcome.network, outcome.config
        trial.place, trial.started, trial.told = self._ended(), len(self.trials), self._elapsed()
        self._sweep.write_trial(trial)  # before the oracle: what isn't on disk isn't counted
        self._oracle.tell(trial.number, trial.score)
        self._forget_networks()
        self._say(trial)
        self._changed.notify_all()

    def _forget_networks(self) -> None:
        """Keep the best trial's network alone; hyperband may go on with any, until the end."""
        leader = best(self.trials)
        if any(trial.epochs != self._epochs for trial in self.trials) or leader is None:
            return
        for trial in self.trials:
            folder = self._sweep.run_folder(trial.run)
            if trial.place is not None and trial is not leader and (folder / "config.json").is_file():
                Run(folder).forget_network()

    def _say(self, trial: Trial) -> None:
        """A line a trial, with the time left."""
        leader = best(self.trials)
        how = (
            f"{trial.score:.1%} of validation images"
            if trial.score is not None
            else f"failed: {trial.message}"
        )
        ahead = f", best {leader.score:.1%} (trial {leader.number})" if leader and leader.score else ""
        of, left = "", ""
        if self._planned:
            since, ended = self._counted_from
            a_trial = (self._elapsed() - since) / max(1, self._ended() - ended)
            of, left = f" of {self._planned}", f", {duration(a_trial * (self._planned - self._ended()))} left"
        print(f"trial {trial.number}: {how}{ahead}; {self._ended()}{of} ended{left}", flush=True)

    def _ended(self) -> int:
        return sum(trial.place is not None for trial in self.trials)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def outcome_of(told: Mapping[str, Any]) -> Outcome:
    """An outcome that came over a connection.

    Raises:
        TypeError, ValueError: it isn't one.
    """
    outcome = Outcome(**told)
    if outcome.status not in ("finished", "failed", "broken") or (
        outcome.status == "finished" and not isinstance(outcome.score, float | int)
    ):
        raise ValueError("not an outcome")
    return outcome
