"""A sweep's report says what its files hold; nothing here needs Keras."""

from dataclasses import asdict

import pytest
from PIL import Image

from kapp.reporting.sweep_page import sweep_page
from kapp.sweeps import Sweep, Trial, best
from kapp.tuning.space import ranges

SPACE = ranges(["learning_rate", "dropout"])


def trial(number: int, score: float | None, **more) -> Trial:
    held = {
        "values": {"learning_rate": 0.001 * (number + 1), "dropout": 0.1 * number},
        "epochs": 9,
        "run": number,
        "status": "failed" if score is None else "finished",
        "told": 60.0 * (number + 1),
        "place": number,
        "started": number + 1,
        "score": score,
        "seconds": 50.0,
        "network": "16fc-3fc",
        "worker": "1",
    }
    return Trial(number, **{**held, **more})


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    settings = {
        "recipe": "train",
        "tuner": "hyperband",
        "budget": None,
        "space": [asdict(each) for each in SPACE],
        "config": {
            "model": "16fc-3fc",
            "dataset": "shapes",
            "learning_rate": 0.002,
            "epochs": 9,
            "out": None,
        },
    }
    return Sweep.start(tmp_path / "sweep", settings)


def test_every_trial_is_shown_the_failed_last_with_its_reason(sweep):
    for each in (
        trial(0, 0.5, default=True, config={"learning_rate": 0.002, "dropout": 0.0}),
        trial(1, None, message="training diverged: the loss is nan"),
        trial(2, 0.625),
        trial(3, 0.6, epochs=3),
        trial(4, 0.55, run=3),
    ):
        sweep.write_trial(each)
    text = sweep_page(sweep)
    assert (
        "Trial 2 is the best: 62.5% of validation images; +12.5 points from the recipe's own settings" in text
    )
    assert "5 trials ended, 1 of them failed, in 5 min; 4 min of training" in text
    rows = [line.split("|")[1].strip() for line in text.split("## Trials")[1].splitlines() if line[:1] == "|"]
    assert rows[:7] == ["trial", "-" * 11, "2", "3", "4", "0 (default)", "1"]
    assert "| 1     | training diverged: the loss is nan |" in text
    assert (
        "0.002" in text.split("## The best\n")[1].split("##")[0]
    )  # the default's own rate, not the proposed
    for name in ("progress", "by_value"):
        with Image.open(sweep.figure(name)) as picture:
            assert picture.width > 400


def test_a_sweep_without_any_finished_trial(sweep):
    sweep.write_trial(trial(0, None, message="it died"))
    text = sweep_page(sweep)
    assert "No trial finished." in text
    assert "it died" in text
    assert "## The best\n" not in text


def test_the_first_of_equally_good_trials_is_the_best():
    assert best([trial(0, 0.5), trial(1, 0.6), trial(2, 0.6), trial(3, None)]).number == 1
    assert best([trial(0, None)]) is None
