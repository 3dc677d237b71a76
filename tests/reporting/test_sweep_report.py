"""The report of a sweep: its text, its figures and its rows."""

import csv
import re
from dataclasses import replace

import pytest
from PIL import Image

from kapp.records import SweepConfig, Trial, write
from kapp.reporting import sweep_report
from kapp.sweep_folder import Sweep, best_trial
from kapp.tuning.search_space import ranges
from tests.reporting.helpers import cells

SPACE = ranges(["learning_rate", "dropout"])


def trial(number: int, score: float | None, **more) -> Trial:
    fields = {
        "values": {"learning_rate": 0.001 * (number + 1), "dropout": 0.1 * number},
        "epochs": 9,
        "run": number,
        "status": "failed" if score is None else "finished",
        "ended_at": 60.0 * (number + 1),
        "end_order": number,
        "num_created_at_end": number + 1,
        "score": score,
        "seconds": 50.0,
        "network": "16fc-3fc",
        "worker": "1",
    }
    return Trial(number, **{**fields, **more})


def report(sweep: Sweep) -> str:
    sweep_report.write(sweep)
    return sweep.report_file.read_text()


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    settings = {"model": "16fc-3fc", "dataset": "shapes", "learning_rate": 0.002, "epochs": 9, "out": None}
    config = SweepConfig("train", "jax", "0", "hyperband", True, SPACE, budget=None, settings=settings)
    with Sweep.open(tmp_path / "sweep", config) as opened:
        return opened


def test_every_trial_has_a_row_and_failed_ones_a_reason(sweep):
    for each in (
        trial(0, 0.5, default=True, config={"learning_rate": 0.002, "dropout": 0.0}),
        trial(1, None, message="training diverged: the loss is nan"),
        trial(2, 0.625),
        trial(3, 0.6, epochs=3),
        trial(4, 0.55, run=3),
    ):
        sweep.write_trial(each)
    text = report(sweep)
    assert (
        "Trial 2 is the best: validation accuracy 62.5%; +12.5 points compared with the recipe's own settings"
        in text
    )
    assert "5 trials ended, 1 of them failed, in 5 min; 4 min of training" in text
    trials, failed = text.split("## Trials\n")[1].split("as random guessing")
    assert [row["trial"] for row in cells(trials)] == ["2", "3", "4", "0 (default)", "1"]
    assert cells(failed) == [{"trial": "1", "reason": "training diverged: the loss is nan"}]
    best, *_ = cells(text.split("## The best\n")[1])
    assert best["the recipe's own"] == "0.002"  # as its config says, not as proposed
    for name in ("progress", "by_value"):
        with Image.open(sweep.figure(name)) as image:
            assert image.width > 400


def test_the_trials_of_several_workers_are_drawn(sweep):
    sweep.write_trial(trial(0, 0.5, worker="here-1"))
    assert "workers.png" not in report(sweep)
    sweep.write_trial(trial(1, None, worker="here-2", message="training diverged"))
    sweep.write_trial(trial(2, None, worker="gpu", status="running", ended_at=None, end_order=None))
    assert "![Trials by worker](figures/workers.png)" in report(sweep)
    with Image.open(sweep.figure("workers")) as image:
        assert image.width > 400


def test_a_default_outside_the_range_is_named(sweep):
    sweep.write_trial(trial(0, 0.5, default=True, config={"learning_rate": 0.5, "dropout": 0.0}))
    sweep.write_trial(trial(1, 0.6))
    assert "Drawn at the nearest limit of the range: the default's learning rate 0.5." in report(sweep)
    sweep.write_trial(trial(0, 0.5, default=True, config={"learning_rate": 1e-4, "dropout": 0.0}))
    assert "at the nearest limit" not in report(sweep)


def test_values_of_the_best_at_a_limit_of_the_search_are_named(sweep):
    sweep.write_trial(trial(0, 0.5, values={"learning_rate": 1e-3, "dropout": 0.2}))
    assert "At a limit of the searched range" not in report(sweep)
    sweep.write_trial(trial(1, 0.6, values={"learning_rate": 1e-4, "dropout": 0.2}))
    assert "At a limit of the searched range: learning rate. Where" in report(sweep)
    sweep.write_trial(trial(2, 0.7, values={"learning_rate": 1e-2, "dropout": 0.6}))
    assert "At a limit of the searched range: learning rate and dropout. Where" in report(sweep)


def test_settings_of_a_teacher_are_shown_only_if_the_sweep_trains_it(sweep):
    path = sweep.folder / "sweep.json"
    for teacher, shown in (("deep_resnet", True), ("runs/deep_resnet", False)):
        config = {"student": "16fc-3fc", "dataset": "shapes", "teacher": [teacher], "teacher_width": 0.75}
        config |= {"epochs": 3}
        write(replace(sweep.config, settings=config), path)
        sweep.write_trial(trial(0, 0.5))
        assert ("| teacher width" in report(sweep)) == shown


def test_the_summary_has_no_local_path_and_makes_itself_again(sweep, tmp_path, make_run, kapp):
    where = {"data_dir": "/somewhere/data", "out": "/somewhere/out", "recipe": "train"}
    config = {"learning_rate": 0.002, "dropout": 0.0, **where}
    sweep.write_trial(trial(0, 0.5, default=True, config=config))
    sweep.write_trial(trial(1, None, message="it diverged"))
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
    assert [(row["number"], row["score"], row["message"]) for row in rows] == [
        ("0", "0.5", ""),
        ("1", "", "it diverged"),
        ("2", "0.625", ""),
    ]
    assert rows[0]["learning_rate"] == "0.002"
    again = kapp("report", "--sweep", "mine", "--out", "mine", "--note", "Why it was made.")
    assert again.returncode == 0, again.stderr
    assert (out / "README.md").read_text() == text


def test_a_sweep_without_any_finished_trial(sweep):
    sweep.write_trial(trial(0, None, message="it diverged"))
    text = report(sweep)
    assert "No trial finished." in text
    assert "it diverged" in text
    assert "## The best\n" not in text


def test_the_first_of_equally_good_trials_is_the_best():
    assert best_trial([trial(0, 0.5), trial(1, 0.6), trial(2, 0.6), trial(3, None)]).number == 1
    assert best_trial([trial(0, None)]) is None
