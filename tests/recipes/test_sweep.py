"""Real sweeps on tiny data, in processes of their own: their files, and their resume after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from distributed import Security

from kapp import cli
from kapp.cluster import Serial
from kapp.recipes import sweep as recipe
from kapp.records import Trial
from kapp.run_folder import Run
from kapp.sweep_folder import Sweep, best_trial
from tests.helpers import accept_interrupts, file_names, untimed_metrics

SWEEP_FILES = {".lock", "best", "best.json", "figures", "report.md", "sweep.json", "trials"}
EPOCHS = 12  # so that a killed worker is in its training


def command(tiny_npz, *more: object) -> list[str]:
    """A sweep of three trials in the folder `mine`, and more flags."""
    words = (
        f"train --dataset npz:{tiny_npz} --model 16fc-8fc-3fc --batch-size 20 --epochs {EPOCHS} --out mine"
    )
    search = "--tuner random --search learning_rate dropout --trials 3"
    flags = [*words.split(), *search.split(), *map(str, more)]
    return [sys.executable, "-m", "kapp.recipes.sweep", *flags]


def scores(sweep: Sweep) -> list[tuple]:
    return [(t.number, t.status, t.values, t.score, t.best_epoch, t.network) for t in sweep.trials()]


def runs(sweep: Sweep) -> list[Run]:
    return [Run(sweep.run_folder(trial.run)) for trial in sweep.trials()]


def wait_for(path: Path, ending: bytes = b"") -> None:
    """Wait until `path` is a file that ends with `ending`."""
    end = time.monotonic() + 200
    while not (path.is_file() and path.read_bytes().endswith(ending)):
        assert time.monotonic() < end, f"{path} is missing, or has no {ending!r} at its end"
        time.sleep(0.02)


def worker_process(driver: subprocess.Popen, folder: Path) -> psutil.Process:
    """The worker of `driver` that trains in `folder`: the process that has its lock."""
    lock = str((folder / ".lock").resolve())
    workers = psutil.Process(driver.pid).children(recursive=True)
    [worker] = [each for each in workers if lock in {file.path for file in each.open_files()}]
    return worker


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_npz):
    """One sweep of three trials by one worker: the folder it ran in, and its process."""
    folder = tmp_path_factory.mktemp("swept")
    done = subprocess.run(command(tiny_npz), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_sweep_leaves_exactly_these_files(swept):
    folder, done = swept
    sweep = Sweep(folder / "mine")
    assert file_names(folder) == {"mine"}
    assert file_names(sweep.folder) == SWEEP_FILES
    assert file_names(sweep.folder / "figures") == {"progress.png", "by_value.png"}
    assert file_names(sweep.folder / "trials") == {f"{i:03d}{end}" for i in range(3) for end in ("", ".json")}
    assert "3 of 3 ended" in done.stdout
    assert "left" in done.stdout
    assert done.stdout.count("test accuracy") == 1


def test_only_the_best_trial_is_scored_on_test_images(swept):
    folder, _ = swept
    sweep = Sweep(folder / "mine")
    trials = sweep.trials()
    for trial, run in zip(trials, runs(sweep)):
        assert not {"result.json", "confusion.csv", "predictions.npz"} & file_names(run.folder)
        assert not any("test" in name for row in run.metrics_rows() for name in row)
        assert trial.score == max(row["val_accuracy"] for row in run.metrics_rows())
    best = best_trial(trials)
    assert best.score == max(trial.score for trial in trials)
    assert sweep.best_run.result.val_accuracy == best.score
    assert 0 <= sweep.best_run.result.test_accuracy <= 1
    with_network = {trial.number for trial, run in zip(trials, runs(sweep)) if run.model_file.exists()}
    assert with_network == {best.number}


def test_the_first_trial_has_the_recipes_own_settings(swept):
    folder, _ = swept
    first, *others = Sweep(folder / "mine").trials()
    assert first.default
    assert (first.config["learning_rate"], first.network) == (1e-3, "16fc-8fc-3fc")
    assert not any(trial.default for trial in others)
    assert all(1e-4 <= trial.config["learning_rate"] <= 1e-2 for trial in others)


def test_the_report_has_every_trial(swept):
    folder, _ = swept
    text = (folder / "mine" / "report.md").read_text()
    for trial in Sweep(folder / "mine").trials():
        assert f"| {trial.number}" in text
        assert trial.network in text
    assert str(folder) not in text


@pytest.mark.slow
def test_the_best_settings_give_the_same_result_again(swept, kapp, tmp_path):
    """Trained again, in a process that has trained nothing before."""
    folder, _ = swept
    done = kapp("train", "--config", folder / "mine" / "best.json", "--out", "again")
    assert done.returncode == 0, done.stderr
    again, best = Run(tmp_path / "again").result, Sweep(folder / "mine").best_run.result
    for name in ("val_accuracy", "test_accuracy", "test_loss", "best_epoch", "parameters", "model"):
        assert getattr(again, name) == getattr(best, name)


def test_the_same_command_again_trains_nothing_and_completes_the_files(swept, tiny_npz):
    folder, _ = swept
    sweep = Sweep(folder / "mine")
    report, best = sweep.folder / "report.md", sweep.best_folder / "report.md"
    before = report.read_text(), best.read_text()
    # As processes left it that were killed before their last files.
    report.unlink()
    best.unlink()
    trials = sweep.trials()
    other = next(trial for trial in trials if trial != best_trial(trials))
    checkpoint = sweep.run_folder(other.run) / "checkpoints" / "latest.npz"
    checkpoint.write_bytes(b"")
    done = subprocess.run(command(tiny_npz), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mine, already complete, skipping" in done.stdout
    assert done.stderr == ""
    assert (report.read_text(), best.read_text()) == before
    assert not checkpoint.exists()


@pytest.mark.slow
def test_a_complete_sweep_continues_with_more_trials(swept, tiny_npz, tmp_path):
    folder, _ = swept
    before = Sweep(folder / "mine").trials()
    shutil.copytree(folder / "mine", tmp_path / "mine")
    more = command(tiny_npz, "--trials", 4)
    done = subprocess.run(more, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = Sweep(tmp_path / "mine").trials()
    assert after[:3] == before
    assert len(after) == 4
    assert done.stderr.count(f"epoch 1/{EPOCHS}") == 1  # of the fourth


@pytest.mark.slow
def test_a_sweep_that_is_killed_twice_has_the_same_scores(swept, tiny_npz, tmp_path):
    folder, _ = swept
    words = command(tiny_npz, "--no-score-best")
    # All of its processes within a training; then the process that proposes trials, alone.
    for trial, kill_all in ((1, True), (2, False)):
        process = subprocess.Popen(
            words,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(tmp_path / "mine" / "trials" / f"{trial:03d}" / "checkpoints" / "latest.npz")
        if kill_all:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole, killed = Sweep(folder / "mine"), Sweep(tmp_path / "mine")
    assert scores(killed) == scores(whole)
    assert [untimed_metrics(run) for run in runs(killed)] == [untimed_metrics(run) for run in runs(whole)]


@pytest.mark.slow
def test_a_killed_workers_trial_is_run_again_and_counted_once(swept, tiny_npz, tmp_path):
    folder, _ = swept
    words = command(tiny_npz, "--workers", 2, "--no-score-best")
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        trial = tmp_path / "mine" / "trials" / "001"
        wait_for(trial / "checkpoints" / "latest.npz")
        worker_process(process, trial).kill()
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()  # which also ends its workers
    assert process.returncode == 0, err
    assert err == "trial 1: its worker ended\n"
    sweep = Sweep(tmp_path / "mine")
    assert scores(sweep) == scores(Sweep(folder / "mine"))
    assert [untimed_metrics(run) for run in runs(sweep)] == [
        untimed_metrics(run) for run in runs(Sweep(folder / "mine"))
    ]
    assert sorted(trial.end_order for trial in sweep.trials()) == [0, 1, 2]
    assert out.count(" ended, ") == 3
    assert {trial.worker for trial in sweep.trials()} <= {"here-1", "here-2"}  # one may train all
    assert file_names(sweep.folder / "logs") == {"trial-0.log", "trial-1.log", "trial-2.log"}
    assert "epoch 12/12" in (sweep.folder / "logs" / "trial-1.log").read_text()


@pytest.mark.slow
def test_an_interrupted_sweep_resumes(swept, tiny_npz, tmp_path):
    folder, _ = swept
    words = command(tiny_npz, "--no-score-best")
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=accept_interrupts,
    )
    wait_for(tmp_path / "mine" / "trials" / "001" / "checkpoints" / "latest.npz")
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith(
        "kapp: interrupted. The same command resumes from the last checkpoint of each trial.\n"
    )
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert Sweep(tmp_path / "mine").trials()[1].status == "running"
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert scores(Sweep(tmp_path / "mine")) == scores(Sweep(folder / "mine"))


@pytest.mark.slow
def test_a_closed_output_ends_the_sweep_and_no_trial_fails(swept, tiny_npz, tmp_path):
    folder, _ = swept
    words = command(tiny_npz, "--no-score-best")
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("sweep: mine")
    process.stdout.close()  # as `| head -1`
    process.stderr.read()
    assert process.wait() == 141
    assert {trial.status for trial in Sweep(tmp_path / "mine").trials()} <= {"running", "finished"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert scores(Sweep(tmp_path / "mine")) == scores(Sweep(folder / "mine")), done.stderr


def test_a_scheduler_that_cannot_be_reached_is_named(tiny_npz, tmp_path):
    words = command(tiny_npz, "--scheduler", "tcp://127.0.0.1:9")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("kapp: cannot connect to the scheduler at tcp://127.0.0.1:9: Timed out")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_workers_of_a_cluster_give_the_same_scores(swept, tiny_npz, tmp_path):
    """A scheduler and two workers, started as separate commands in another folder, with TLS."""
    folder, _ = swept
    security = Security.temporary()
    files = {"ca": security.tls_ca_file, "cert": security.tls_client_cert, "key": security.tls_client_key}
    for name, text in files.items():
        (tmp_path / f"{name}.pem").write_text(text)
    dask = [sys.executable, "-m", "dask"]
    tls = "--tls-ca-file ca.pem --tls-cert cert.pem --tls-key key.pem".split()
    at = "--protocol tls --host 127.0.0.1 --port 0 --no-dashboard --dashboard-address 127.0.0.1:0".split()
    worker = "--nthreads 1 --memory-limit 0 --no-dashboard --death-timeout 60".split()
    with ExitStack() as stack:

        def start(*words: str) -> None:
            process = stack.enter_context(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)

        start(*dask, "scheduler", *at, *tls, "--scheduler-file", "scheduler.json")
        file = tmp_path / "scheduler.json"
        wait_for(file, b"}")  # it isn't written in one step
        address = json.loads(file.read_text())["address"]
        for name in ("gpu1", "gpu2"):
            start(*dask, "worker", address, "--name", name, *worker, *tls)
        (tmp_path / "work").mkdir()
        pem = [word for name in files for word in (f"--tls-{name}", tmp_path / f"{name}.pem")]
        words = command(tiny_npz, "--scheduler", address, *pem, "--workers", 2)
        done = subprocess.run(words, cwd=tmp_path / "work", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    sweep, whole = Sweep(tmp_path / "work" / "mine"), Sweep(folder / "mine")
    assert scores(sweep) == scores(whole)
    assert {trial.worker for trial in sweep.trials()} == {"gpu1", "gpu2"}
    assert sweep.best_run.result.test_accuracy == whole.best_run.result.test_accuracy
    assert file_names(sweep.folder) == SWEEP_FILES | {"logs"}


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_fails_with_its_reason(kapp, tmp_path, tiny_npz):
    small = f"train --dataset npz:{tiny_npz} --model 16fc-3fc --batch-size 20 --epochs 2 --optimizer sgd"
    search = "--tuner random --trials 2 --search learning_rate --search-range learning_rate=1e30:1e36"
    done = kapp("sweep", *small.split(), *search.split(), *"--out mine --no-score-best".split())
    assert done.returncode == 0, done.stderr
    default, failed = Sweep(tmp_path / "mine").trials()
    assert (default.status, failed.status, failed.score) == ("finished", "failed", None)
    assert "training" in failed.message
    assert failed.message in (tmp_path / "mine" / "report.md").read_text()
    assert not (tmp_path / "mine" / "best").exists()
    assert json.loads((tmp_path / "mine" / "best.json").read_text())["learning_rate"] == 1e-3


@pytest.mark.slow
def test_students_share_one_teacher_and_hyperband_continues_trials(kapp, tmp_path, tiny_npz):
    small = f"distill --dataset npz:{tiny_npz} --teacher linear_3 --teacher-width 0.01 --teacher-epochs 1"
    more = "--student 8fc-8fc-3fc --batch-size 20 --epochs 3 --tuner hyperband --search label_weight widths"
    done = kapp("sweep", *small.split(), *more.split(), "--out", "mine")
    assert done.returncode == 0, done.stderr
    [teacher] = (tmp_path / "runs").iterdir()
    sweep = Sweep(tmp_path / "mine")
    trials = sweep.trials()
    assert {trial.epochs for trial in trials} == {1, 3}
    assert any(trial.run != trial.number for trial in trials)
    for trial in trials:
        assert trial.config["teacher"] == [f"runs/{teacher.name}"]
        assert abs(trial.parameters - trials[0].parameters) <= 0.05 * trials[0].parameters  # of 1,800
    assert len(sweep.best_run.metrics_rows()) == 3
    assert sweep.best_run.result.teachers == ("linear_3",)


def test_trials_have_the_runs_of_two_teachers_and_the_weights_of_distill(monkeypatch, tmp_path, tiny_npz):
    monkeypatch.chdir(tmp_path)
    flags = f"--dataset npz:{tiny_npz} --teacher 8fc-3fc 4fc-3fc --teacher-epochs 2 1 --student 8fc-3fc "
    flags += "--batch-size 20 --epochs 1 --search label_weight --out mine"
    config = cli.parse(recipe.Distill, flags.split())
    plan = recipe.make_plan(config, flags.split())
    plan = replace(plan, settings=recipe.with_trained(plan.settings, Serial()))
    trial, cluster = Trial(0, {"label_weight": 0.3}, epochs=1, run=0), Serial()
    with Sweep.open(plan.folder, plan.config) as sweep:
        cluster.submit(recipe.trial_task(config, plan, trial, sweep.run_folder(0)))
        [result] = cluster.completed()
        assert result.error is None
        trial.status, trial.score = "finished", result.value["score"]
        sweep.write_trial(trial)
        recipe.finish(config, sweep, cluster)
        [trial] = sweep.trials()
        assert sweep.is_best_finished(trial)  # so that the same command doesn't score it again
    settings = sweep.best_run.config.settings
    assert (settings["label_weight"], settings["distill_weight"]) == (0.3, 0.7)  # as kapp distill has them
    assert [Run(folder).result.epochs for folder in settings["teacher"]] == [2, 1]


@pytest.mark.parametrize(
    ("flags", "values", "weights"),
    [
        ("--distill-weight 2", {"label_weight": 0.3}, (0.3, 2.0)),
        ("", {"label_weight": 0.3, "distill_weight": 0.5}, (0.3, 0.5)),
        ("", {"label_weight": 1.0}, (1.0, 0.0)),
        ("--label-weight 0.25", {"momentum": 0.9}, (0.25, 0.75)),
    ],
)
def test_a_distill_weight_of_the_user_or_the_search_stays(tmp_path, tiny_npz, flags, values, weights):
    words = f"--dataset npz:{tiny_npz} --teacher 4fc-3fc --student 8fc-3fc --batch-size 20 {flags}".split()
    config = cli.parse(recipe.Distill, words)
    trial = Trial(0, values, epochs=1, run=0)
    recipe.trial_task(config, recipe.make_plan(config, words), trial, tmp_path)
    assert (trial.config["label_weight"], trial.config["distill_weight"]) == weights


@pytest.mark.slow
def test_a_sweep_from_a_teacher_of_unknown_training_says_that_its_scores_may_be_too_high(
    kapp, tmp_path, tiny_npz
):
    from kapp import models

    models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3)).save(tmp_path / "teacher.keras")
    small = f"distill --dataset npz:{tiny_npz} --teacher teacher.keras --student 8fc-3fc --batch-size 20"
    done = kapp("sweep", *small.split(), *"--epochs 1 --tuner random --trials 1 --out mine".split())
    assert done.returncode == 0, done.stderr
    warning = "It is unknown whether the teacher teacher was trained on the 40 validation images."
    assert done.stdout.index(warning) < done.stdout.index("1 of 1 ended")
    report = (tmp_path / "mine" / "report.md").read_text()
    assert report.index(warning) < report.index("## The best")


@pytest.mark.slow
def test_transfer_can_be_swept(kapp, tmp_path, tiny_npz):
    small = f"transfer --model 16fc-8fc-3fc --source npz:{tiny_npz} --target npz:{tiny_npz} --batch-size 20"
    more = "--source-epochs 1 --epochs 2 --probe-epochs 1 --tuner random --trials 2 --out mine"
    done = kapp("sweep", *small.split(), *more.split())
    assert done.returncode == 0, done.stderr
    sweep = Sweep(tmp_path / "mine")
    [source] = (tmp_path / "runs").iterdir()
    for trial in sweep.trials():
        assert trial.config["source"] == f"runs/{source.name}"
        assert not list(sweep.run_folder(trial.run).rglob("result.json"))
    assert sweep.best_run.result.phase == "fine_tuning"
    assert Run(sweep.best_run.linear_probe).result.phase == "linear_probe"
    assert done.stderr.count("epoch 2/2") == 2  # the best trial isn't trained again


@pytest.mark.slow
def test_all_trials_of_a_budget_have_its_parameters(kapp, tmp_path, tiny_npz):
    small = f"train --dataset npz:{tiny_npz} --model 40fc-40fc-3fc --batch-size 20 --epochs 1"
    search = "--tuner random --search layers widths --budget 2k --trials 3 --no-score-best --out mine"
    done = kapp("sweep", *small.split(), *search.split())
    assert done.returncode == 0, done.stderr
    trials = Sweep(tmp_path / "mine").trials()
    assert trials[0].default
    assert len({trial.network for trial in trials}) > 1
    for trial in trials:
        assert abs(trial.parameters - 2000) <= 200  # as near as whole units allow


@pytest.mark.slow
def test_hyperband_resumes_without_a_limit_of_trials(kapp, tmp_path, tiny_npz):
    small = f"train --dataset npz:{tiny_npz} --model 16fc-3fc --batch-size 20 --epochs 3 --tuner hyperband"
    words = [*small.split(), *"--search learning_rate --no-score-best --out mine".split()]
    done = kapp("sweep", *words, "--trials", 2)
    assert done.returncode == 0, done.stderr
    sweep = Sweep(tmp_path / "mine")
    before = scores(sweep)
    assert len(before) == 2
    assert "| epochs" in sweep.report_file.read_text()  # 1 of 3, although equal for both trials
    done = kapp("sweep", *words)
    assert done.returncode == 0, done.stderr
    assert scores(sweep)[:2] == before
    assert {trial.epochs for trial in sweep.trials()} == {1, 3}
