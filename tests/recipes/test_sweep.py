"""Real sweeps on tiny data, in processes of their own: what they leave, and what they do when killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kapp.runs import Run
from kapp.sweeps import Sweep, Trial, best

TINY = "--model 16fc-8fc-3fc --batch-size 20 --tuner random --search learning_rate dropout".split()
LEFT = {"best", "best.json", "figures", "report.md", "sweep.json", "trials"}


def words(tiny_npz, *more: object) -> list[str]:
    return [
        sys.executable,
        "-m",
        "kapp.recipes.sweep",
        "train",
        "--dataset",
        f"npz:{tiny_npz}",
        *TINY,
        *map(str, more),
    ]


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def scores(trials: list[Trial]) -> list[tuple]:
    return [(t.number, t.status, t.values, t.score, t.best_epoch, t.network) for t in trials]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_npz):
    """One sweep of three trials by one worker: the folder it ran in."""
    folder = tmp_path_factory.mktemp("swept")
    done = subprocess.run(
        words(tiny_npz, "--epochs", 6, "--trials", 3, "--out", "mine"),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_sweep_leaves_exactly_these_files(swept):
    folder, done = swept
    sweep = Sweep(folder / "mine")
    assert left(folder) == {"mine"}
    assert left(sweep.folder) == LEFT
    assert left(sweep.folder / "figures") == {"progress.png", "by_value.png"}
    assert left(sweep.folder / "trials") == {f"{i:03d}{end}" for i in range(3) for end in ("", ".json")}
    assert "3 of 3 ended" in done.stdout
    assert "left" in done.stdout
    assert done.stdout.count("of test images") == 1


def test_only_the_best_was_scored_on_test_images(swept):
    folder, _ = swept
    sweep = Sweep(folder / "mine")
    trials = sweep.trials()
    for trial in trials:
        run = sweep.run_folder(trial.run)
        assert not (run / "result.json").exists()
        assert not (run / "confusion.csv").exists()
        assert not any("test" in name for row in Run(run).epochs() for name in row)
        assert trial.score == max(row["val_accuracy"] for row in Run(run).epochs())
    leader = best(trials)
    assert leader.score == max(trial.score for trial in trials)
    result = sweep.best_run.result
    assert result["val_accuracy"] == leader.score
    assert 0 <= result["test_accuracy"] <= 1
    networks = {trial.number for trial in trials if (sweep.run_folder(trial.run) / "model.keras").exists()}
    assert networks == {leader.number}


def test_the_first_trial_has_the_recipes_own_settings(swept):
    folder, _ = swept
    first, *others = Sweep(folder / "mine").trials()
    assert first.default
    assert (first.config["learning_rate"], first.network) == (1e-3, "16fc-8fc-3fc")
    assert not any(trial.default for trial in others)
    assert all(1e-4 <= trial.config["learning_rate"] <= 1e-2 for trial in others)


def test_the_report_shows_every_trial(swept):
    folder, _ = swept
    text = (folder / "mine" / "report.md").read_text()
    assert "of the test images it names" in text
    for trial in Sweep(folder / "mine").trials():
        assert f"| {trial.number}" in text
        assert trial.network in text
    assert str(folder) not in text


def test_the_best_config_runs_as_it_is_with_the_same_result(swept, kapp, tmp_path):
    """Trained anew, in a process that trained nothing before."""
    folder, _ = swept
    done = kapp("train", "--config", folder / "mine" / "best.json", "--out", "again")
    assert done.returncode == 0, done.stderr
    again, finished = Run(tmp_path / "again").result, Sweep(folder / "mine").best_run.result
    for name in ("val_accuracy", "test_accuracy", "test_loss", "best_epoch", "parameters", "model"):
        assert again[name] == finished[name]


def test_the_same_command_again_searches_nothing(swept, tiny_npz):
    folder, _ = swept
    report = folder / "mine" / "report.md"
    before = report.read_text()
    report.unlink()  # as if it had been killed before its last file
    done = subprocess.run(
        words(tiny_npz, "--epochs", 6, "--trials", 3, "--out", "mine"),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "mine, searched already" in done.stdout
    assert done.stderr == ""
    assert report.read_text() == before


@pytest.mark.slow
def test_more_trials_go_on_with_a_finished_sweep(swept, tiny_npz):
    folder, _ = swept
    before = Sweep(folder / "mine").trials()
    more = words(tiny_npz, "--epochs", 6, "--trials", 4, "--out", "more")
    subprocess.run(["cp", "-r", "mine", "more"], cwd=folder, check=True)
    done = subprocess.run(more, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = Sweep(folder / "more").trials()
    assert after[:3] == before
    assert len(after) == 4
    assert done.stderr.count("epoch 1/6") == 1  # of the fourth


@pytest.mark.slow
def test_a_sweep_killed_twice_ends_with_the_same_scores(swept, tiny_npz, tmp_path):
    folder, _ = swept
    command = words(tiny_npz, "--epochs", 6, "--trials", 3, "--out", "mine", "--no-test-best")
    # The whole of it in the midst of a training; then the process that hands out trials, alone.
    for trial, whole in ((1, True), (2, False)):
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(tmp_path / "mine" / "trials" / f"{trial:03d}" / "checkpoints" / "latest.npz")
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole_sweep, killed = Sweep(folder / "mine"), Sweep(tmp_path / "mine")
    assert scores(killed.trials()) == scores(whole_sweep.trials())
    for trial in killed.trials():
        kept, other = (Run(s.run_folder(trial.run)).metrics_file for s in (killed, whole_sweep))
        assert without_times(kept) == without_times(other)


@pytest.mark.slow
def test_two_workers_one_of_them_killed_lose_no_trial_and_count_none_twice(swept, tiny_npz, tmp_path):
    folder, _ = swept
    command = words(tiny_npz, "--epochs", 6, "--trials", 3, "--out", "mine", "--workers", 2, "--no-test-best")
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(tmp_path / "mine" / "trials" / "001" / "checkpoints" / "latest.npz")
        name = json.loads((tmp_path / "mine" / "trials" / "001.json").read_text())["worker"]
        os.kill(worker_of(process.pid, name), signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()  # and with it go its workers
    assert process.returncode == 0, err
    trials = Sweep(tmp_path / "mine").trials()
    assert "it is run again" in err or "trial 1:" in out  # it may have ended just before
    assert scores(trials) == scores(Sweep(folder / "mine").trials())
    assert sorted(trial.place for trial in trials) == [0, 1, 2]
    assert out.count(" ended, ") == 3
    assert {trial.worker for trial in trials} == {"here-1", "here-2"}


def test_a_trial_that_cannot_be_trained_is_shown_and_counts_as_the_worst(kapp, tmp_path, tiny_npz):
    done = kapp(
        "sweep",
        *("train", "--dataset", f"npz:{tiny_npz}", "--model", "16fc-3fc", "--batch-size", 20, "--epochs", 2),
        *("--tuner", "random", "--trials", 2, "--search", "learning_rate", "--optimizer", "sgd"),
        *("--range", "learning_rate=1e30:1e36", "--out", "mine", "--no-test-best"),
    )
    assert done.returncode == 0, done.stderr
    default, failed = Sweep(tmp_path / "mine").trials()
    assert (default.status, failed.status, failed.score) == ("finished", "failed", None)
    assert "training diverged" in failed.message or "died" in failed.message
    report = (tmp_path / "mine" / "report.md").read_text()
    assert failed.message in report
    assert "failed" in report.split("## Trials")[1].splitlines()[5]  # below the one that trained
    assert not (tmp_path / "mine" / "best").exists()
    assert json.loads((tmp_path / "mine" / "best.json").read_text())["learning_rate"] == 1e-3


@pytest.mark.slow
def test_distillation_shares_one_teacher_and_hyperband_goes_on(kapp, tmp_path, tiny_npz):
    done = kapp(
        "sweep",
        *("distill", "--dataset", f"npz:{tiny_npz}", "--teacher", "linear_3", "--teacher-width", 0.01),
        *("--teacher-epochs", 1, "--student", "8fc-8fc-3fc", "--batch-size", 20, "--epochs", 3),
        *("--tuner", "hyperband", "--search", "label_weight", "widths", "--out", "mine"),
    )
    assert done.returncode == 0, done.stderr
    [teacher] = (tmp_path / "runs").iterdir()
    sweep = Sweep(tmp_path / "mine")
    trials = sweep.trials()
    assert {trial.epochs for trial in trials} == {1, 3}
    continued = [trial for trial in trials if trial.run != trial.number]
    assert continued
    for trial in trials:
        assert trial.config["teacher"] == [f"runs/{teacher.name}"]
        assert abs(trial.parameters - trials[0].parameters) <= 0.05 * trials[0].parameters  # of 1,800
    assert len(sweep.best_run.epochs()) == 3
    assert sweep.best_run.result["teachers"] == ["linear_3"]


def without_times(path: Path) -> list[list[str]]:
    rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if name not in ("seconds", "images_per_second")]
    return [[row[i] for i in kept] for row in rows]


def wait_for(path: Path) -> None:
    until = time.monotonic() + 200
    while not path.is_file():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


def worker_of(parent: int, name: str) -> int:
    """The process that is worker `name` of `parent`."""
    listed = subprocess.run(["ps", "-Aww", "-o", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    found = [
        line.split(maxsplit=2) for line in listed.splitlines() if line.rstrip().endswith(f"--worker {name}")
    ]
    [pid] = [int(pid) for pid, ppid, _ in found if int(ppid) == parent]
    return pid


@pytest.mark.slow
def test_a_transfer_is_swept(kapp, tmp_path, tiny_npz):
    done = kapp(
        "sweep",
        *(
            "transfer",
            "--model",
            "16fc-8fc-3fc",
            "--source",
            f"npz:{tiny_npz}",
            "--target",
            f"npz:{tiny_npz}",
        ),
        *("--source-epochs", 1, "--epochs", 2, "--head-epochs", 1, "--batch-size", 20, "--tuner", "random"),
        *("--trials", 2, "--out", "mine"),
    )
    assert done.returncode == 0, done.stderr
    sweep = Sweep(tmp_path / "mine")
    [source] = (tmp_path / "runs").iterdir()
    for trial in sweep.trials():
        assert trial.config["source"] == f"runs/{source.name}"
        assert not list(sweep.run_folder(trial.run).rglob("result.json"))
    assert sweep.best_run.result["phase"] == "phase 2"
    assert Run(sweep.best_run.phase1).result["phase"] == "phase 1"
    assert done.stderr.count("epoch 2/2") == 2  # the best was not trained again


@pytest.mark.slow
def test_all_trials_of_a_budget_have_it_the_default_too(kapp, tmp_path, tiny_npz):
    small = f"train --dataset npz:{tiny_npz} --model 40fc-40fc-3fc --batch-size 20 --epochs 1"
    search = "--tuner random --search layers widths --budget 2k --trials 3 --no-test-best --out mine"
    done = kapp("sweep", *small.split(), *search.split())
    assert done.returncode == 0, done.stderr
    trials = Sweep(tmp_path / "mine").trials()
    assert trials[0].default
    assert len({trial.network for trial in trials}) > 1
    for trial in trials:
        assert abs(trial.parameters - 2000) <= 200  # as near as whole units allow


@pytest.mark.slow
def test_a_hyperband_that_was_cut_short_goes_on_to_its_end(kapp, tmp_path, tiny_npz):
    small = f"train --dataset npz:{tiny_npz} --model 16fc-3fc --batch-size 20 --epochs 3 --tuner hyperband"
    command = [*small.split(), *"--search learning_rate --no-test-best --out mine".split()]
    done = kapp("sweep", *command, "--trials", 2)
    assert done.returncode == 0, done.stderr
    sweep = Sweep(tmp_path / "mine")
    before = sweep.trials()
    assert len(before) == 2
    assert "| epochs" in sweep.report_file.read_text()  # one of three: said, though alike for both
    done = kapp("sweep", *command)
    assert done.returncode == 0, done.stderr
    assert scores(sweep.trials())[:2] == scores(before)
    assert {trial.epochs for trial in sweep.trials()} == {1, 3}
