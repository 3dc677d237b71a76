"""What KerasTuner proposes, and that a search goes on after a kill as if it hadn't been."""

import math

import pytest

from kapp.sweeps import Trial
from kapp.tuning.oracle import RANDOM_FIRST, TUNERS, Oracle, Proposal, new_trial
from kapp.tuning.space import ranges

SPACE = ranges(["learning_rate", "weight_decay"])
CONDITIONAL = ranges(["layers", "widths"])
EPOCHS = 9


def oracle(tuner: str, space=SPACE, default=None, trials: int | None = 8) -> Oracle:
    many = None if tuner == "hyperband" else trials
    return Oracle(tuner, space, default=default, seed=0, trials=many, epochs=EPOCHS, failed_score=0.1)


def search(asked: Oracle, trials: list[Trial], upto: int = 1000) -> list[Trial]:
    """Trials one after another; every fourth fails."""
    while len(trials) < upto and isinstance(proposal := asked.ask(), Proposal):
        trial = new_trial(len(trials), proposal, trials, EPOCHS)
        trial.place, trial.started = trial.number, trial.number + 1
        rate = proposal.values.get("learning_rate", 1e-3)
        trial.score = None if trial.number % 4 == 3 else 0.5 - abs(math.log10(rate) + 2.5) / 10
        trials.append(trial)
        asked.tell(trial.number, trial.score)
    return trials


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_search_that_was_killed_proposes_what_it_would_have(tuner):
    space = SPACE[:1]
    whole = search(oracle(tuner, space, trials=6), [])
    part = search(oracle(tuner, space, trials=6), [], upto=4)
    again = oracle(tuner, space, trials=6)
    assert again.restore(part) == []
    assert search(again, part) == whole
    assert len(whole) > 5 > RANDOM_FIRST * len(space) + 1  # so that the Gaussian process was asked


def test_the_order_in_which_trials_ended_counts():
    """Two workers: trial 1 ends before trial 0, trial 2 is handed out in between."""

    def proposed() -> tuple[Oracle, list[Trial]]:
        asked, trials = oracle("bayesian"), []
        for number, ended in ((0, None), (1, None), (2, 1), (3, 0)):
            if ended is not None:
                trials[ended].score, trials[ended].place, trials[ended].started = (
                    0.4 + ended / 10,
                    1 - ended,
                    number,
                )
                asked.tell(ended, trials[ended].score)
            trials.append(new_trial(number, asked.ask(), trials, EPOCHS))
        return asked, trials

    first, trials = proposed()
    second = oracle("bayesian")
    second.restore(trials)
    for each in (first, second):
        for number in (2, 3):
            each.tell(number, 0.3)
    assert first.ask() == second.ask()


def test_a_trial_whose_file_is_lost_is_proposed_again():
    trials = search(oracle("random"), [], upto=5)
    [missing] = oracle("random").restore([trial for trial in trials if trial.number != 2])
    assert (missing.number, missing.values) == (2, trials[2].values)


def test_the_first_trial_is_the_default():
    default = {"learning_rate": 1e-3, "weight_decay": 1e-6}
    for tuner in TUNERS:
        assert oracle(tuner, default=default).ask().values == default


def test_more_trials_go_on_and_fewer_stop():
    six = search(oracle("random", trials=6), [])
    more, fewer = oracle("random", trials=8), oracle("random", trials=4)
    more.restore(six)
    fewer.restore(six)
    assert len(search(more, list(six))) == 8
    assert fewer.ask() == "stop"


def test_widths_are_proposed_where_there_are_layers():
    for trial in search(oracle("random", CONDITIONAL, trials=12), []):
        widths = {name for name in trial.values if name.startswith("width_")}
        assert widths == {f"width_{i}" for i in range(2, int(trial.values["layers"]) + 1)}


def test_hyperband_goes_on_with_the_best_third():
    trials = search(oracle("hyperband"), [])
    assert {trial.epochs for trial in trials} == {1, 3, 9}
    for trial in trials:
        if trial.run != trial.number:
            assert trial.values == trials[trial.run].values
            assert trial.epochs > trials[trial.run].epochs
