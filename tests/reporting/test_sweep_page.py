"""A sweep's report says what its files hold; nothing here needs Keras."""

import csv
import json
import re
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


def test_several_workers_are_shown_with_what_each_trained(sweep):
    sweep.write_trial(trial(0, 0.5, worker="here-1"))
    assert "workers.png" not in sweep_page(sweep)
    sweep.write_trial(trial(1, None, worker="here-2", message="training diverged"))
    sweep.write_trial(trial(2, None, worker="gpu", status="running", told=None, place=None))
    assert "![Trials by worker](figures/workers.png)" in sweep_page(sweep)
    with Image.open(sweep.figure("workers")) as picture:
        assert picture.width > 400


def test_a_default_outside_the_range_is_told_from_the_edge_where_it_is_drawn(sweep):
    sweep.write_trial(trial(0, 0.5, default=True, config={"learning_rate": 0.5, "dropout": 0.0}))
    sweep.write_trial(trial(1, 0.6))
    assert "Drawn at the nearest end of the range: the default's learning rate 0.5." in sweep_page(sweep)
    sweep.write_trial(trial(0, 0.5, default=True, config={"learning_rate": 1e-4, "dropout": 0.0}))
    assert "at the nearest end" not in sweep_page(sweep)


def test_the_bests_values_at_an_end_of_the_search_are_named(sweep):
    sweep.write_trial(trial(0, 0.5, values={"learning_rate": 1e-3, "dropout": 0.2}))
    assert "At an end of what was searched" not in sweep_page(sweep)
    sweep.write_trial(trial(1, 0.6, values={"learning_rate": 1e-4, "dropout": 0.2}))
    assert "At an end of what was searched: its learning rate. Where" in sweep_page(sweep)
    sweep.write_trial(trial(2, 0.7, values={"learning_rate": 1e-2, "dropout": 0.6}))
    assert "At an end of what was searched: its learning rate and dropout. Where" in sweep_page(sweep)


def test_a_teachers_own_settings_are_shown_where_they_train_it(sweep):
    """That of a run folder was trained in its own way, whatever the settings here say."""
    sweep.write_trial(trial(0, 0.5))
    path = sweep.folder / "sweep.json"
    for teacher, shown in (("deep_resnet", True), ("runs/deep_resnet", False)):
        config = {"student": "16fc-3fc", "dataset": "shapes", "teacher": [teacher], "teacher_width": 0.75}
        config |= {"epochs": 3}
        path.write_text(json.dumps({**sweep.settings, "config": config}))
        assert ("| teacher width" in sweep_page(sweep)) == shown


def test_a_sweep_becomes_a_report_that_tells_no_place_and_makes_itself_again(sweep, tmp_path, make_run, kapp):
    where = {"data_dir": "/somewhere/data", "out": "/somewhere/out", "recipe": "train"}
    config = {"learning_rate": 0.002, "dropout": 0.0, **where}
    sweep.write_trial(trial(0, 0.5, default=True, config=config))
    sweep.write_trial(trial(1, None, message="it died"))
    sweep.write_trial(trial(2, 0.625, config=config))
    sweep.write_best(config)
    make_run("sweep/best", "16fc-3fc", 0.61)
    (sweep.best_folder / "model.keras").write_text("weights")
    (sweep.folder / "trials" / "002").mkdir()
    (sweep.folder / "trials" / "002" / "model.keras").write_text("weights")

    done = kapp("report", "--sweep", sweep.folder, "--out", "mine", "--note", "Why it was made.")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "mine"
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    record = ("config.json", "environment.json", "result.json", "metrics.csv", "confusion.csv", "report.md")
    assert left == {
        *("README.md", "rows.csv", "sweep.json", "best.json", "figures/progress.png", "figures/by_value.png"),
        *(f"trials/{i:03d}.json" for i in range(3)),
        *(f"best/{name}" for name in (*record, "figures/curves.png", "figures/confusion.png")),
    }
    text = (out / "README.md").read_text()
    assert "# Sweep of train: 16fc-3fc on shapes\n\nWhy it was made.\n\nTrial 2 is the best" in text
    assert all((out / link).exists() for link in re.findall(r"\]\(([^)]+)\)", text))
    for path in out.rglob("*"):
        assert path.suffix == ".png" or path.is_dir() or "somewhere" not in path.read_text()
    rows = list(csv.DictReader((out / "rows.csv").open()))
    assert [(row["trial"], row["val_accuracy"], row["message"]) for row in rows] == [
        ("0", "0.5", ""),
        ("1", "", "it died"),
        ("2", "0.625", ""),
    ]
    assert rows[0]["learning_rate"] == "0.002"
    again = kapp("report", "--sweep", "mine", "--out", "mine", "--note", "Why it was made.")
    assert again.returncode == 0, again.stderr
    assert (out / "README.md").read_text() == text


def test_a_sweep_without_any_finished_trial(sweep):
    sweep.write_trial(trial(0, None, message="it died"))
    text = sweep_page(sweep)
    assert "No trial finished." in text
    assert "it died" in text
    assert "## The best\n" not in text


def test_the_first_of_equally_good_trials_is_the_best():
    assert best([trial(0, 0.5), trial(1, 0.6), trial(2, 0.6), trial(3, None)]).number == 1
    assert best([trial(0, None)]) is None
