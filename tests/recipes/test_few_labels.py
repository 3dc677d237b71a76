"""The real command with few labels, images without labels and views that never come again."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from kapp import cli, models
from kapp.errors import ConfigError
from kapp.recipes import distill, train, transfer
from kapp.run_folder import Run


def resolve(recipe, flags: str):
    return cli.parse(recipe.Config, flags.split()).resolved()


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, tiny_npz):
    """A student of 60 labels, 100 hidden ones and 30 images without, its baseline, and the same command
    again."""
    folder = tmp_path_factory.mktemp("few")
    models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3), seed=1).save(folder / "teacher.keras")
    extra = np.random.default_rng(7).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    np.savez(folder / "extra.npz", extra)
    words = "-m kapp.recipes.distill --teacher teacher.keras --student 8fc-3fc --epochs 4 --batch-size 20 "
    words += "--labeled 60 --unlabeled npz:extra.npz --label-weight 0.2 --distillation-loss kl --out mine "
    words += "--mixup 0.5 --crop-scale 0.5 --hue 0.1 --random-erasing 0.3 --data-dir . --dataset"
    outputs = []
    for more in ((), ("--config", "mine/config.json")):
        done = subprocess.run(
            [sys.executable, *words.split(), f"npz:{tiny_npz}", *more],
            cwd=folder,
            env=os.environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return folder, outputs


def test_the_baseline_takes_as_many_steps_on_the_labeled_images_alone(distilled):
    folder, _ = distilled
    (path,) = (folder / "runs").iterdir()
    student, baseline = Run(folder / "mine"), Run(path)
    assert (student.result.train_images, student.result.labeled_images) == (190, 60)
    assert student.result.unlabeled_images == 30
    assert (baseline.result.train_images, baseline.result.labeled_images) == (60, 60)
    assert student.result.validation_images == baseline.result.validation_images == 40
    # 4 epochs of 190 // 20 steps are 12 of 60 // 20; each validates 4 times.
    assert baseline.result.epochs == 12
    assert [row["epoch"] for row in baseline.metrics_rows()] == [3, 6, 9, 12]
    assert len(student.metrics_rows()) == 4
    assert baseline.config.settings["mixup"] == 0.5
    assert "unlabeled" not in baseline.config.settings


def test_the_run_and_its_report_say_how_many_labels_there_were(distilled):
    folder, outputs = distilled
    run = Run(folder / "mine")
    assert run.config.unlabeled_sha256 is not None
    assert run.config.settings["labeled"] == 60
    assert run.result.teacher_logits == "cached"
    assert run.result.hyperparameters["crop_scale"] == 0.5
    report = run.report_file.read_text()
    assert "60 of the 190 training images have a label. 30 were added without labels." in report
    assert "trained on 60 images for 12 epochs, as many gradient steps as the student" in report
    assert re.search(r"\| training images with labels +\| 60 of 190 +\|", report)
    for name in ("labeled", "unlabeled", "mixup", "crop scale", "hue", "random erasing"):
        assert re.search(rf"^\| {name} +\| \S", report, re.MULTILINE)
    assert "8fc-3fc: already complete, skipping" in outputs[1]
    epochs = sorted(path.name for path in (folder / "teacher_logits").glob("*/seed_0/*.npy"))
    assert epochs == [f"epoch_000{i}.npy" for i in range(4)]


def test_other_images_without_labels_are_another_run(distilled, tiny_npz):
    folder, _ = distilled
    np.savez(folder / "other.npz", np.zeros((30, 8, 8, 3), np.uint8))
    flags = f"--teacher {folder}/teacher.keras --dataset npz:{tiny_npz} --unlabeled npz:{folder}"
    one, other = (resolve(distill, f"{flags}/{name}.npz") for name in ("extra", "other"))
    configs = [each.run_config(each.load()) for each in (one, other)]
    assert configs[0].unlabeled_sha256 != configs[1].unlabeled_sha256
    assert configs[0].data_sha256 == configs[1].data_sha256


def test_who_uses_which_labels():
    settings = resolve(distill, "--dataset shapes --labeled 1000 --baseline-epochs 7 --teacher conv_1")
    assert settings.teacher_settings("conv_1").data.labeled == 1000
    baseline = settings.baseline_settings()
    assert (baseline.data.labeled, baseline.hparams.epochs, baseline.data.validate_every) == (1000, 7, None)
    assert resolve(distill, "--labeled 1000").baseline_epochs is None
    assert resolve(distill, "--student linear_3").baseline_epochs == 75
    moved = resolve(transfer, "--source shapes --target shapes:near --labeled 100")
    assert moved.source_settings().data.labeled is None
    assert moved.scratch_settings().data.labeled == 100


def test_the_baseline_never_takes_more_steps_than_the_student():
    settings = resolve(distill, "--dataset shapes --labeled 1000 --epochs 10 --batch-size 32")
    dataset = settings.load()
    baseline = settings.baseline_settings(dataset)
    steps, own = 10 * (len(dataset.train) // 32), 1000 // 32
    assert steps - own < baseline.hparams.epochs * own <= steps
    assert baseline.data.validate_every == len(dataset.train)


def test_a_baseline_of_fewer_images_than_an_epoch_of_the_student_is_validated_at_its_end():
    flags = "--dataset shapes --train-images 1000 --labeled 300 --batch-size 100 --epochs 1"
    settings = resolve(distill, flags)
    dataset, baseline = settings.load(), settings.baseline_settings(settings.load())
    assert (baseline.hparams.epochs, baseline.data.validate_every) == (3, 900)
    settings.check_data(dataset)
    baseline.check_data(baseline.data.load("shapes", 100))
    longer = resolve(distill, f"{flags} --validate-every 1000")
    with pytest.raises(ConfigError, match="--validate-every is 1000: it must be at most 900"):
        longer.check_data(dataset)  # before the teacher is trained


@pytest.mark.parametrize("recipe", [train, distill, transfer])
def test_a_wrong_number_of_labels_is_refused(recipe):
    for flags, message in (
        ("--labeled 0", "--labeled is 0: it must be at least 1"),
        ("--labeled 10 --batch-size 32", "--labeled is 10: it must be at least one batch"),
    ):
        with pytest.raises(ConfigError, match=message):
            cli.parse(recipe.Config, flags.split()).check()


def test_what_is_refused_in_distill():
    for flags, message in (
        ("--unlabeled cifar10", "--unlabeled is cifar10: it must be npz:PATH or folder:PATH"),
        ("--unlabeled npz:gone.npz", "there is no file 'gone.npz'"),
        ("--labeled 4000 --distillation-loss nkd", "nkd needs the label of every image"),
    ):
        with pytest.raises(ConfigError, match=message):
            cli.parse(distill.Config, flags.split()).check()
