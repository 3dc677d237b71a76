"""What to try next: KerasTuner's oracles, without its files.

KerasTuner writes an oracle's state in place, in files that a kill can tear, without the state of its random
numbers; and what its workers send leaves out why a trial failed. So here an oracle holds no file: each
proposal follows from the seed, the number of trials before it and their scores alone, and after a kill an
oracle is made anew from the sweep's trials.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from kapp import cli
from kapp.errors import Failure, WrongValue
from kapp.sweeps import Trial
from kapp.tuning.space import Range

TUNERS = ("random", "bayesian", "hyperband")
OBJECTIVE = "val_accuracy"
RANDOM_FIRST = 2  # random trials a searched value, before the Gaussian process is asked
FACTOR = 3  # hyperband trains that many times as long with the best third
SPACING = 100_003  # random numbers that a proposal may use before it meets those of the next


@dataclass(frozen=True)
class Proposal:
    """A trial to run.

    Args:
        values: what to train with, by name.
        epochs: to train up to; None: all of them.
        continues: the number of the trial that it goes on with, of hyperband.
    """

    values: dict[str, float]
    epochs: int | None = None
    continues: int | None = None


def check_installed() -> None:
    """Raises:
    WrongValue: KerasTuner isn't installed.
    """
    if find_spec("keras_tuner") is None or find_spec("sklearn") is None:
        raise WrongValue(
            "a sweep searches with KerasTuner, which isn't installed: pip install 'kapp[sweep]'."
        )


class Oracle:
    """Proposes trials and learns from their scores.

    Args:
        tuner: one of `TUNERS`.
        space: what is searched.
        default: values of the first trial; None: they are searched as well.
        seed: of the search.
        trials: how many at most (None, for hyperband: as many as its brackets have).
        epochs: of a whole training.
        failed_score: what a failed trial counts as.
    """

    def __init__(
        self,
        tuner: str,
        space: Sequence[Range],
        *,
        default: dict[str, float] | None,
        seed: int,
        trials: int | None,
        epochs: int,
        failed_score: float,
    ):
        self._oracle = _make(tuner, space, seed, trials, epochs)
        self._oracle.first = default
        self._failed_score = failed_score

    def ask(self) -> Proposal | str:
        """The next trial, or "wait" for one that runs to end, or "stop"."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the Gaussian process's own parameters, at a bound
            trial = self._oracle.create_trial(f"trial {len(self._oracle.trials)}")
        if trial.status == "IDLE":
            return "wait"
        if trial.status == "STOPPED":
            return "stop"
        values = dict(trial.hyperparameters.values)
        epochs, before = values.get("tuner/epochs"), values.get("tuner/trial_id")
        return Proposal(
            {name: value for name, value in values.items() if not name.startswith("tuner/")},
            epochs=epochs,
            continues=None if before is None else int(before),
        )

    def tell(self, number: int, score: float | None) -> None:
        """Trial `number` scored `score`; None: it failed, and counts as the worst."""
        trial = next(t for t in self._oracle.trials.values() if int(t.trial_id) == number)
        self._oracle.update_trial(trial.trial_id, {OBJECTIVE: self._failed_score if score is None else score})
        trial.status = "COMPLETED"
        self._oracle.end_trial(trial)

    def restore(self, trials: Sequence[Trial]) -> list[Trial]:
        """Bring a new oracle to where it was when `trials` were its trials, in the order in which they came
        and went; those of them that are missing below the last number are proposed again and returned.

        Raises:
            Failure: they aren't trials of this oracle.
        """
        by_number = {trial.number: trial for trial in trials}
        ended = sorted((t for t in trials if t.place is not None), key=lambda t: t.place or 0)
        missing = []
        most, self._oracle.max_trials = self._oracle.max_trials, None  # fewer may be wanted now
        for number in range(max(by_number, default=-1) + 1):
            for trial in [t for t in ended if t.started == number]:
                self.tell(trial.number, trial.score)
            held = by_number.get(number)
            self._oracle.known = held.values if held else None
            proposal = self.ask()
            self._oracle.known = None
            if not isinstance(proposal, Proposal):
                raise Failure(f"trial {number} isn't of this search. Start anew with --overwrite.")
            if held is None:
                missing += [new_trial(number, proposal, trials, proposal.epochs or 0)]
        for trial in [t for t in ended if t.started == len(self._oracle.trials)]:
            self.tell(trial.number, trial.score)
        self._oracle.max_trials = most
        return missing


def new_trial(number: int, proposal: Proposal, trials: Sequence[Trial], epochs: int) -> Trial:
    """The trial that `proposal` asks for, among `trials`."""
    before = proposal.continues
    run = number if before is None else next(t.run for t in trials if t.number == before)
    default = before is not None and next(t.default for t in trials if t.number == before)
    return Trial(number, proposal.values, proposal.epochs or epochs, run, default)


def _make(tuner: str, space: Sequence[Range], seed: int, trials: int | None, epochs: int) -> Any:
    """The KerasTuner oracle called `tuner`."""
    os.environ["KERAS_BACKEND"] = cli.backend()
    with cli.quiet():  # no Keras operation is run: the accelerator stays the workers'
        import keras_tuner
        import numpy as np
        from keras_tuner import oracles

    class WithoutFiles:
        """Mixed into an oracle of KerasTuner."""

        first: dict[str, float] | None = None
        known: dict[str, float] | None = None  # what it is to propose, when it is restored

        def save(self) -> None:
            pass

        def _save_trial(self, trial: Any) -> None:
            pass

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            self._seed_state = SPACING * (seed + 1) + 1000 * len(self.trials)  # type: ignore[attr-defined]
            self._random_state = np.random.RandomState(self._seed_state % 2**32)
            if self.known is not None and tuner != "hyperband":  # whose brackets are to be filled
                return {"status": "RUNNING", "values": dict(self.known)}
            return super().populate_space(trial_id)  # type: ignore[misc]

        def _random_values(self) -> dict[str, float] | None:
            given = self.known if self.known is not None else self.first if not self.trials else None  # type: ignore[attr-defined]
            return super()._random_values() if given is None else dict(given)  # type: ignore[misc]

    kind = {
        "random": oracles.RandomSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
        "hyperband": oracles.HyperbandOracle,
    }[tuner]
    more: dict[str, Any] = {
        "random": {},
        "bayesian": {"num_initial_points": RANDOM_FIRST * len(space) + 1},
        "hyperband": {"max_epochs": epochs, "factor": FACTOR},
    }[tuner]
    if tuner != "hyperband":
        more["max_trials"] = trials
    oracle: Any = type("Oracle", (WithoutFiles, kind), {})(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        hyperparameters=_hyperparameters(space, keras_tuner.HyperParameters()),
        allow_new_entries=False,
        seed=seed + 1,  # which takes 0 for none
        **more,
    )
    oracle.max_trials = trials
    oracle.verbose = 0
    return oracle


def _hyperparameters(space: Sequence[Range], hp: Any) -> Any:
    for each in space:
        condition: dict[str, Any] = {}
        if each.layers:
            most = next(int(r.high) for r in space if r.name == "layers")
            condition = {"parent_name": "layers", "parent_values": list(range(each.layers, most + 1))}
        if each.whole:
            hp.Int(each.name, int(each.low), int(each.high), **condition)
        else:
            sampling = "log" if each.log else "linear"
            hp.Float(each.name, each.low, each.high, sampling=sampling, **condition)
    return hp
