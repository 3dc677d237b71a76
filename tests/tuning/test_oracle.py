"""What KerasTuner proposes, and that a resumed search proposes the same."""

import math

import pytest

from kapp.records import Trial
from kapp.tuning.oracle import INITIAL_POINTS, TUNERS, Oracle
from kapp.tuning.search_space import ranges

SPACE = ranges(["learning_rate", "weight_decay"])
CONDITIONAL = ranges(["layers", "widths"])
EPOCHS = 9


def make_oracle(tuner: str, space=SPACE, default=None, trials: int | None = 8) -> Oracle:
    max_trials = None if tuner == "hyperband" else trials
    return Oracle(
        tuner, space, default=default, seed=0, max_trials=max_trials, epochs=EPOCHS, failed_score=0.1
    )


def search(oracle: Oracle, until: int = 1000) -> list[Trial]:
    """Runs trials one after another, up to trial `until`; every fourth fails."""
    while len(oracle.trials) < until and isinstance(trial := oracle.create_trial(), Trial):
        trial.end_order, trial.num_created_at_end = trial.number, trial.number + 1
        rate = trial.values.get("learning_rate", 1e-3)
        trial.score = None if trial.number % 4 == 3 else 0.5 - abs(math.log10(rate) + 2.5) / 10
        oracle.end_trial(trial.number, trial.score)
    return oracle.trials


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_resumed_search_proposes_the_same_trials(tuner):
    space = SPACE[:1]
    whole = search(make_oracle(tuner, space, trials=6))
    part = search(make_oracle(tuner, space, trials=6), until=4)
    resumed = make_oracle(tuner, space, trials=6)
    resumed.restore(part)
    assert resumed.trials == part
    assert search(resumed) == whole
    assert len(whole) > 5 > INITIAL_POINTS * len(space) + 1  # so that the Gaussian process proposes some


def test_the_order_in_which_trials_ended_counts():
    """Two workers: trial 1 ends before trial 0, trial 2 starts in between."""
    first, second = make_oracle("bayesian"), make_oracle("bayesian")
    for number, ended in ((0, None), (1, None), (2, 1), (3, 0)):
        if ended is not None:
            trial = first.trials[ended]
            trial.score, trial.end_order, trial.num_created_at_end = 0.4 + ended / 10, 1 - ended, number
            first.end_trial(ended, trial.score)
        first.create_trial()
    second.restore(first.trials)
    for oracle in (first, second):
        for number in (2, 3):
            oracle.end_trial(number, 0.3)
    assert first.create_trial() == second.create_trial()


@pytest.mark.parametrize("lost", [0, 2])
def test_a_trial_without_its_file_is_proposed_again(lost):
    default = {"learning_rate": 1e-3, "weight_decay": 1e-6}
    trials = search(make_oracle("random", default=default), until=5)
    resumed = make_oracle("random", default=default)
    resumed.restore([trial for trial in trials if trial.number != lost])
    again = resumed.trials[lost]
    assert (again.number, again.values, again.default) == (lost, trials[lost].values, lost == 0)
    assert again.end_order is None


def test_the_first_trial_is_the_default():
    default = {"learning_rate": 1e-3, "weight_decay": 1e-6}
    for tuner in TUNERS:
        oracle = make_oracle(tuner, default=default)
        first, second = oracle.create_trial(), oracle.create_trial()
        assert (first.values, first.default, second.default) == (default, True, False)
        assert not make_oracle(tuner).create_trial().default


def test_a_resumed_search_may_have_more_trials_or_fewer():
    six = list(search(make_oracle("random", trials=6)))
    more, fewer = make_oracle("random", trials=8), make_oracle("random", trials=4)
    more.restore(six)
    fewer.restore(six)
    assert len(search(more)) == 8
    assert fewer.create_trial() == "stop"


def test_widths_are_proposed_where_there_are_layers():
    for trial in search(make_oracle("random", CONDITIONAL, trials=12)):
        widths = {name for name in trial.values if name.startswith("width_")}
        assert widths == {f"width_{i}" for i in range(2, int(trial.values["layers"]) + 1)}


def test_hyperband_continues_the_best_third():
    trials = search(make_oracle("hyperband"))
    assert {trial.epochs for trial in trials} == {1, 3, 9}
    first = [trial for trial in trials if trial.epochs == 1]
    scored = [trial for trial in first if trial.score is not None]
    best = sorted(scored, key=lambda trial: -trial.score)[: len(first) // 3]
    continued = {trial.run for trial in trials if trial.epochs == 3 and trial.run != trial.number}
    assert continued == {trial.number for trial in best}
    for trial in trials:
        if trial.run != trial.number:
            assert trial.values == trials[trial.run].values
            assert trial.epochs > trials[trial.run].epochs
