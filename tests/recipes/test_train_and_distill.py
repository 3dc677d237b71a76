"""The real commands on tiny data, and the files that they leave."""

import json
import zipfile

import numpy as np
import pytest

from kapp.papers import hu
from kapp.run_folder import Run
from tests.helpers import RUN_FILES, file_names

SMALL = "--batch-size 20 --epochs 2".split()


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, tiny_npz):
    """One distillation by the command line, its teacher and its baseline: the folder it ran in."""
    import os
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("distilled")
    words = "-m kapp.recipes.distill --teacher teacher_1 --student 16fc-3fc --width 0.1 --out mine"
    more = "--teacher-epochs 1 --baseline-epochs 2"
    done = subprocess.run(
        [sys.executable, *words.split(), *more.split(), *SMALL, "--dataset", f"npz:{tiny_npz}"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_distillation_leaves_three_runs_with_exactly_these_files(distilled):
    folder, _ = distilled
    mine = Run(folder / "mine")
    others = {Run(path).config.settings["model"]: Run(path) for path in (folder / "runs").iterdir()}
    assert others.keys() == {"teacher_1", "16fc-3fc"}
    for run in (mine, *others.values()):
        assert file_names(run.folder) == RUN_FILES
        assert file_names(run.folder / "checkpoints") == set()
        assert len(run.metrics_rows()) == run.result.epochs
    assert file_names(mine.folder / "figures") == {
        "accuracies.png",
        "accuracy.png",
        "confusion.png",
        "loss.png",
    }
    assert file_names(others["teacher_1"].folder / "figures") == {"confusion.png", "curves.png"}


def test_the_distilled_run_holds_the_student_alone(distilled):
    folder, _ = distilled
    with zipfile.ZipFile(folder / "mine" / "model.keras") as file:
        config = json.loads(file.read("config.json"))
    names = [layer["name"] for layer in config["config"]["layers"]]
    assert "dense1" in names
    assert not any("conv" in name for name in names)  # teacher_1's


def test_the_run_says_what_was_done(distilled):
    folder, done = distilled
    run = Run(folder / "mine")
    assert run.result.teachers == ("teacher_1",)
    assert run.result.validation_overlap == (0,)
    assert "No teacher was trained on the validation images." in run.report_file.read_text()
    assert "too high" not in done.stdout
    assert run.config.settings["distillation_loss"] == "prob_mse"
    assert run.result.status == "finished"
    assert list(run.metrics_rows()[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "agreement",
        "val_loss",
        "val_accuracy",
        "val_agreement",
        "learning_rate",
        "images_per_second",
        "seconds",
    ]
    low, high = run.result.test_interval
    assert 0 <= low <= run.result.test_accuracy <= high <= 1
    assert run.confusion().to_numpy().sum() == 50
    assert len(run.config.data_sha256) == 64
    assert run.environment.versions["keras"]
    assert run.environment.data_sha256 == run.config.data_sha256
    assert "| 16fc-3fc" in done.stdout  # the comparison
    assert "report: mine/report.md" in done.stdout
    assert "epoch 2/2" in done.stderr
    assert "left" in done.stderr


def test_the_same_command_again_trains_nothing(distilled, tiny_npz):
    import os
    import subprocess
    import sys

    folder, _ = distilled
    (folder / "mine" / "report.md").unlink()  # as if it had been killed before its last file
    words = [sys.executable, "-m", "kapp.recipes.distill", "--config", "mine/config.json"]
    done = subprocess.run(words, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already complete, skipping") == 3
    assert "epoch" not in done.stderr
    assert (folder / "mine" / "report.md").is_file()


@pytest.mark.slow
def test_three_processes_in_one_folder_train_once(tiny_npz, tmp_path):
    import subprocess
    import sys

    words = [
        sys.executable,
        "-m",
        "kapp.recipes.train",
        "--model",
        "16fc-3fc",
        "--dataset",
        f"npz:{tiny_npz}",
    ]
    words += [*SMALL, "--out", "mine"]
    processes = [
        subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert sum("already complete, skipping" in out for out, _ in outputs) == 2
    assert sum("epoch 2/2" in err for _, err in outputs) == 1
    assert file_names(tmp_path / "mine") == RUN_FILES


@pytest.mark.slow
def test_a_run_folder_and_a_file_teach_together(distilled, kapp, tmp_path, tiny_npz):
    folder, _ = distilled
    teacher = next(path for path in (folder / "runs").iterdir() if "teacher_1" in path.name)
    before = (teacher / "model.keras").read_bytes()
    done = kapp(
        "distill",
        *("--teacher", teacher, folder / "mine" / "model.keras", "--student", "8fc-3fc", "--no-baseline"),
        *(
            "--distillation-loss",
            "kl",
            "--temperature",
            2,
            "--label-weight",
            0.5,
            "--ensemble",
            "probabilities",
        ),
        *("--dataset", f"npz:{tiny_npz}", "--out", "both", *SMALL),
    )
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "both")
    assert run.result.teachers == ("teacher_1", "model")
    assert run.result.validation_overlap == (0, None)  # of a file nothing is known
    warning = "It is unknown whether the teacher model was trained on the 40 validation images. If so, "
    assert done.stdout.count(warning) == 1
    assert done.stdout.index(warning) < done.stdout.index("2 epochs from teacher_1 + model")
    assert warning in run.report_file.read_text()
    assert (teacher / "model.keras").read_bytes() == before
    assert not (tmp_path / "runs").exists()  # nobody else was trained


@pytest.mark.slow
def test_a_distilled_run_teaches_in_its_turn_and_knows_images_that_it_did_not_hold_out(
    distilled, kapp, tmp_path, tiny_npz
):
    folder, _ = distilled
    teaching = ("--teacher", folder / "mine", "--student", "8fc-3fc", "--no-baseline", *SMALL)
    more = ("--validation-images", 60)  # the teacher held out 40 of them
    done = kapp("distill", *teaching, *more, "--dataset", f"npz:{tiny_npz}", "--out", "next")
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "next")
    assert run.result.teachers == ("16fc-3fc",)
    assert run.result.validation_overlap == (20,)
    warning = (
        "The teacher 16fc-3fc was trained on 20 of the 60 validation images. The validation accuracy of "
    )
    assert warning in done.stdout
    assert warning in run.report_file.read_text()


def test_runs_are_put_side_by_side(distilled, kapp):
    folder, _ = distilled
    runs = [folder / "mine", *sorted((folder / "runs").iterdir())]
    done = kapp("report", "--runs", *runs, "--out", folder / "side")
    assert done.returncode == 0, done.stderr
    assert file_names(folder / "side") == {"README.md", "rows.csv", "figures", "runs"}
    record = {
        "config.json",
        "environment.json",
        "result.json",
        "metrics.csv",
        "confusion.csv",
        "predictions.npz",
    }
    assert all(file_names(path) == record for path in (folder / "side" / "runs").iterdir())

    # The record is enough, and tells nothing of where the runs lay.
    kept = [folder / "side" / "runs" / run.name for run in runs]
    again = kapp("report", "--runs", *kept, "--out", folder / "again")
    assert again.returncode == 0, again.stderr
    first, second = ((folder / name / "README.md").read_text() for name in ("side", "again"))
    assert first == second
    text = "".join(path.read_text() for path in (folder / "side" / "runs").rglob("*.json"))
    assert str(folder) not in text


def test_the_catalogue_is_printed(kapp, tmp_path):
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-m", "kapp.models"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "linear_3: 3-layers, all linear (Ratusznik et al., table 2)" in done.stdout
    assert "10,522,634 parameters (10M reported), 21 MFLOPs an image" in done.stdout
    assert "128c^2-512c^4-10fc\n    built as res-128c^2-512c^4-10fc\n    9,207,050 parameters" in done.stdout


@pytest.mark.slow
def test_the_whole_code_of_hu_trains(kapp, tmp_path):
    random = np.random.default_rng(0)
    images = {
        f"x_{part}": random.integers(0, 256, (n, 32, 32, 3)) for part, n in (("train", 50), ("test", 10))
    }
    labels = {"y_train": np.arange(50) % 5, "y_test": np.arange(10) % 5}
    np.savez(tmp_path / "noise.npz", **{name: x.astype(np.uint8) for name, x in images.items()}, **labels)
    done = kapp(
        "train",
        *"--model all_cnn_a --width 0.05 --epochs 2 --dataset npz:noise.npz --no-flip".split(),
        *"--crop-padding 0 --validation-images 10 --out mine --code-variants".split(),
        *hu.code_variants("all_cnn_a"),
    )
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "mine")
    hparams = run.result.hyperparameters
    assert [hparams[name] for name in ("schedule", "learning_rate", "batch_size")] == ["constant", 0.001, 4]
    assert (run.result.best_epoch, run.result.validation_images) == (2, 10)
    assert run.result.val_accuracy == run.metrics_rows()[-1]["val_accuracy"]
    assert "as in Hu 2018's code: the validation images selected nothing" in run.report_file.read_text()
    with zipfile.ZipFile(run.model_file) as file:
        layers = json.loads(file.read("config.json"))["config"]["layers"]
    config = {layer["name"]: layer["config"] for layer in layers}
    assert [config[f"conv{i}"]["filters"] for i in (1, 2, 3, 4)] == [5, 10, 10, 10]
    np.testing.assert_allclose(np.sqrt(config["normalise"]["variance"]) / 255, [0.2023, 0.1994, 0.2010])
