"""What to try next: KerasTuner's oracles, without their files.

KerasTuner writes an oracle's state to files that a killed process leaves damaged, without the state of its
random numbers, and its workers don't send the reason of a failure. Here an oracle writes no file. Each
proposal depends on the seed, the number of trials before it and their scores alone, so `Oracle.restore`
resumes a search from the sweep's trials.
"""

import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

from kapp import cli
from kapp.errors import ConfigError, KappError
from kapp.records import SearchRange, Trial

TUNERS = ("random", "bayesian", "hyperband")
OBJECTIVE = "val_accuracy"
INITIAL_POINTS = 2  # random trials per searched value, before those of the Gaussian process
FACTOR = 3  # hyperband continues the best third with three times the epochs
SEED_SPACING = 100_003  # random numbers between those of two sweeps' seeds


def check_installed() -> None:
    """Raise a ConfigError if KerasTuner isn't installed."""
    if find_spec("keras_tuner") is None or find_spec("sklearn") is None:
        raise ConfigError(
            "a sweep searches with KerasTuner, which isn't installed: pip install 'kapp[sweep]'."
        )


class Oracle:
    """Proposes the trials of a search, from the scores of those that ended.

    Args:
        tuner: one of `TUNERS`.
        space: what is searched.
        default: values of the default trial, which comes first; None: there is none.
        seed: of the search.
        max_trials: of the search; None, for hyperband alone: as many as its brackets have.
        epochs: of a whole training.
        failed_score: the score that a failed trial counts as.

    Attributes:
        trials: all that were proposed, by number.
    """

    def __init__(
        self,
        tuner: str,
        space: Sequence[SearchRange],
        *,
        default: dict[str, float] | None,
        seed: int,
        max_trials: int | None,
        epochs: int,
        failed_score: float,
    ):
        self.trials: list[Trial] = []
        self.max_trials, self.epochs = max_trials, epochs
        self._default, self._failed_score = default, failed_score
        self._oracle = _keras_tuner_oracle(tuner, space, default, seed, max_trials, epochs)

    def create_trial(self) -> Trial | Literal["wait", "stop"]:
        """A new trial; "wait": one that runs has to end first; "stop": the search has ended."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the Gaussian process's own parameters at a bound
            proposal = self._oracle.create_trial(f"trial {len(self.trials)}")
        if proposal.status in ("IDLE", "STOPPED"):
            return "wait" if proposal.status == "IDLE" else "stop"
        values = dict(proposal.hyperparameters.values)
        number, continued = len(self.trials), values.get("tuner/trial_id")
        before = None if continued is None else self.trials[int(continued)]
        trial = Trial(
            number,
            {name: value for name, value in values.items() if not name.startswith("tuner/")},
            epochs=values.get("tuner/epochs") or self.epochs,
            run=before.run if before else number,
            default=before.default if before else self._default is not None and number == 0,
        )
        self.trials.append(trial)
        return trial

    def end_trial(self, number: int, score: float | None) -> None:
        """Take the score of trial `number`, its best validation accuracy; None: it failed."""
        trial = list(self._oracle.trials.values())[number]
        self._oracle.update_trial(trial.trial_id, {OBJECTIVE: self._failed_score if score is None else score})
        trial.status = "COMPLETED"
        self._oracle.end_trial(trial)

    def restore(self, trials: Sequence[Trial]) -> None:
        """Bring a new oracle to the state after `trials`, in the order in which they began and ended.

        Trials that are missing below the highest number are proposed again.

        Raises:
            KappError: this oracle doesn't propose such trials.
        """
        by_number = {trial.number: trial for trial in trials}
        ended = sorted((t for t in trials if t.end_order is not None), key=lambda t: t.end_order or 0)
        self._oracle.max_trials = None  # the new search may have fewer
        for number in range(max(by_number, default=-1) + 1):
            for trial in [t for t in ended if t.num_created_at_end == number]:
                self.end_trial(trial.number, trial.score)
            self._oracle.saved = by_number[number].values if number in by_number else None
            if not isinstance(self.create_trial(), Trial):
                raise KappError(f"trial {number} isn't of this search. Start again with --overwrite.")
            self.trials[number] = by_number.get(number, self.trials[number])
        for trial in [t for t in ended if (t.num_created_at_end or 0) >= len(self.trials)]:
            self.end_trial(trial.number, trial.score)
        self._oracle.saved, self._oracle.max_trials = None, self.max_trials


def _keras_tuner_oracle(
    tuner: str,
    space: Sequence[SearchRange],
    default: dict[str, float] | None,
    seed: int,
    max_trials: int | None,
    epochs: int,
) -> Any:
    os.environ["KERAS_BACKEND"] = cli.backend()
    with cli.suppress_stderr():  # no Keras operation is run: the accelerator is free for the workers
        import keras_tuner
        import numpy as np
        from keras_tuner import oracles

    class Reproducible:
        """A mixin for an oracle of KerasTuner: no files, and proposals that `saved` replaces."""

        saved: dict[str, float] | None = None  # the next proposal, of a search that is restored

        def save(self) -> None:
            pass

        def _save_trial(self, trial: Any) -> None:
            pass

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            self._seed_state = SEED_SPACING * (seed + 1) + 1000 * len(self.trials)  # type: ignore[attr-defined]
            self._random_state = np.random.RandomState(self._seed_state % 2**32)
            if self.saved is not None and tuner != "hyperband":  # hyperband fills its brackets itself
                return {"status": "RUNNING", "values": dict(self.saved)}
            return super().populate_space(trial_id)  # type: ignore[misc]

        def _random_values(self) -> dict[str, float] | None:
            first = default if not self.trials else None  # type: ignore[attr-defined]
            values = first if self.saved is None else self.saved
            return super()._random_values() if values is None else dict(values)  # type: ignore[misc]

    kinds: dict[str, tuple[type, dict[str, Any]]] = {
        "random": (oracles.RandomSearchOracle, {"max_trials": max_trials}),
        "bayesian": (
            oracles.BayesianOptimizationOracle,
            {"max_trials": max_trials, "num_initial_points": INITIAL_POINTS * len(space) + 1},
        ),
        "hyperband": (oracles.HyperbandOracle, {"max_epochs": epochs, "factor": FACTOR}),
    }
    kind, options = kinds[tuner]
    oracle: Any = type("Oracle", (Reproducible, kind), {})(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        hyperparameters=_hyperparameters(space, keras_tuner.HyperParameters()),
        allow_new_entries=False,
        seed=seed + 1,  # KerasTuner takes 0 for None
        **options,
    )
    oracle.max_trials = max_trials
    oracle.verbose = 0
    return oracle


def _hyperparameters(space: Sequence[SearchRange], hp: Any) -> Any:
    for each in space:
        condition: dict[str, Any] = {}
        if each.min_layers:
            max_layers = next(int(r.high) for r in space if r.name == "layers")
            condition = {
                "parent_name": "layers",
                "parent_values": list(range(each.min_layers, max_layers + 1)),
            }
        if each.integer:
            hp.Int(each.name, int(each.low), int(each.high), **condition)
        else:
            hp.Float(each.name, each.low, each.high, sampling="log" if each.log else "linear", **condition)
    return hp
