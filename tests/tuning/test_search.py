"""A search runs its trials as tasks, and records each result before the oracle has it."""

import math
import re
from pathlib import Path

import pytest

from kapp.cluster import Serial, Task
from kapp.errors import ConfigError, KappError
from kapp.records import SweepConfig, Trial
from kapp.sweep_folder import Sweep
from kapp.tuning.oracle import Oracle
from kapp.tuning.search import Search
from kapp.tuning.search_space import ranges

CONFIG = SweepConfig("train", "jax", "0", "random", True, (), None, {})
SPACE = ranges(["learning_rate"])


def make_oracle(trials: int) -> Oracle:
    return Oracle("random", SPACE, default=None, seed=0, max_trials=trials, epochs=1, failed_score=0.1)


def score(number: int) -> dict:
    return {"number": number, "status": "finished", "score": number / 10}


def fail(number: int) -> dict:
    raise OSError(f"no room for trial {number}\nmore")


def score_odd(number: int) -> dict:
    return score(number) if number % 2 else fail(number)


def reject(number: int) -> dict:
    return {"number": number, "status": "failed", "message": "training diverged"}


def lie(number: int) -> dict:
    """What no honest worker returns: a score above 1, of another trial, or more than a result."""
    lies = ({"score": 1.5}, {"score": math.nan}, {"number": 7}, {"config": {"out": "/"}}, {"seconds": -1.0})
    return {**score(number), **lies[number]} if number < len(lies) else score(number)


def lie_seldom(number: int) -> dict:
    return score(number) if number % 2 else lie(number // 2)


def search(folder: Path, trials: int, function=score, oracle: Oracle | None = None) -> list[Trial]:
    """The recorded trials of a search in `folder`."""

    def task(trial: Trial) -> Task:
        return Task(f"trial {trial.number}", function, {"number": trial.number})

    with Sweep.open(folder, CONFIG) as sweep:
        Search(sweep, oracle or make_oracle(trials), task).run(Serial())
        return sweep.trials()


def test_each_trial_is_printed_with_the_best_and_the_time_left(tmp_path, capsys):
    trials = search(tmp_path / "sweep", 3)
    assert [(t.number, t.status, t.score, t.end_order, t.num_created_at_end) for t in trials] == [
        (0, "finished", 0.0, 0, 1),
        (1, "finished", 0.1, 1, 2),
        (2, "finished", 0.2, 2, 3),
    ]
    lines = capsys.readouterr().out.splitlines()
    line = r"trial 1: 10\.0% of validation images, best 10\.0% \(trial 1\); 2 of 3 ended, \d+ s left"
    assert re.fullmatch(line, lines[1])
    assert len(lines) == 3


def test_a_result_is_recorded_before_the_oracle_has_it(tmp_path):
    oracle, heard = make_oracle(2), []
    end_trial = oracle.end_trial

    def end(number, score):
        recorded = Sweep(tmp_path / "sweep").trials()[number]
        heard.append((number, score, recorded.status, recorded.score))
        end_trial(number, score)

    oracle.end_trial = end
    search(tmp_path / "sweep", 2, oracle=oracle)
    assert heard == [(0, 0.0, "finished", 0.0), (1, 0.1, "finished", 0.1)]


def test_a_resumed_search_runs_what_is_left(tmp_path):
    whole = search(tmp_path / "whole", 4)
    search(tmp_path / "part", 2)
    with Sweep.open(tmp_path / "part", CONFIG) as sweep:  # a third trial was running
        sweep.write_trial(Trial(2, whole[2].values, epochs=1, run=2))
    resumed = search(tmp_path / "part", 4)
    assert [(t.values, t.score, t.end_order) for t in resumed] == [
        (t.values, t.score, t.end_order) for t in whole
    ]


def test_a_failed_trial_has_its_reason(tmp_path, capsys):
    [trial] = search(tmp_path / "sweep", 1, reject)
    assert (trial.status, trial.score, trial.message) == ("failed", None, "training diverged")
    assert capsys.readouterr().out == "trial 0: failed: training diverged; 1 of 1 ended, 0 s left\n"


def test_a_trial_that_raises_fails_with_its_message(tmp_path, capsys):
    trials = search(tmp_path / "sweep", 4, score_odd)
    assert [trial.status for trial in trials] == ["failed", "finished"] * 2
    assert trials[2].message == "OSError: no room for trial 2"
    assert "trial 2: failed: OSError: no room for trial 2, best 10.0% (trial 1)" in capsys.readouterr().out


def test_the_search_stops_when_several_trials_in_a_row_raise(tmp_path):
    with pytest.raises(KappError, match="3 trials in a row crashed, the last: OSError: no room .* See"):
        search(tmp_path / "sweep", 9, fail)
    assert len(Sweep(tmp_path / "sweep").trials()) == 3
    assert len(search(tmp_path / "sweep", 5)) == 5  # it resumes with the next trial


def meet_damage(number):
    raise KappError("metrics.csv is damaged. Start again with --overwrite.")


def test_a_damaged_file_ends_the_search_and_is_no_failure_of_the_trial(tmp_path):
    message = r"damaged.* The same command resumes with this trial, .* remove .*sweep/trials/000\.$"
    with pytest.raises(KappError, match=message):
        search(tmp_path / "sweep", 2, meet_damage)
    [trial] = Sweep(tmp_path / "sweep").trials()
    assert (trial.status, trial.end_order) == ("running", None)
    assert [trial.status for trial in search(tmp_path / "sweep", 2)] == ["finished"] * 2


def test_a_trial_without_a_network_fails_and_the_next_runs(tmp_path):
    def task(trial: Trial) -> Task:
        if trial.number == 0:
            raise ConfigError("too many layers for this budget")
        return Task("task", score, {"number": 1})

    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        Search(sweep, make_oracle(2), task).run(Serial())
        first, second = sweep.trials()
    assert (first.status, first.message) == ("failed", "too many layers for this budget")
    assert second.score == 0.1


def test_a_result_that_cannot_be_is_a_crash_and_its_score_is_never_used(tmp_path):
    trials = search(tmp_path / "sweep", 10, lie_seldom)
    lies = [trial for trial in trials if trial.number % 2 == 0]
    assert [(trial.status, trial.score) for trial in lies] == [("failed", None)] * 5
    assert "the score is 1.5, not from 0 to 1" in lies[0].message
    assert "the score is nan" in lies[1].message
    assert "is of trial 7" in lies[2].message
    assert "config is unknown" in lies[3].message
    assert [trial.score for trial in trials if trial.number % 2] == [0.1, 0.3, 0.5, 0.7, 0.9]
