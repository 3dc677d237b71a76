"""The real transfer command on tiny data, and the files that it leaves."""

import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from kapp import cli
from kapp.errors import ConfigError
from kapp.recipes import transfer
from kapp.recipes.settings import NetworkOptions
from kapp.run_folder import Run
from tests import example_records
from tests.helpers import RUN_FILES, file_names

NETWORK = "8c-mp-d0.3-8c1x1-3c1x1-gap"
SMALL = "--batch-size 20 --epochs 2 --probe-epochs 3 --scratch-epochs 2 --source-epochs 2".split()


@pytest.fixture(scope="module")
def target(tiny_npz, tmp_path_factory):
    """The tiny set in two classes and upside down."""
    with np.load(tiny_npz) as held:
        arrays = {name: held[name] for name in held.files if name != "classes"}
    arrays |= {name: arrays[name] % 2 for name in ("y_train", "y_test")}
    arrays |= {name: arrays[name][:, ::-1] for name in ("x_train", "x_test")}
    path = tmp_path_factory.mktemp("target") / "small.npz"
    np.savez(path, **arrays)
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "kapp.recipes.transfer", *map(str, words)]


@pytest.fixture(scope="module")
def transferred(tmp_path_factory, tiny_npz, target):
    folder = tmp_path_factory.mktemp("transferred")
    words = ("--model", NETWORK, "--source", f"npz:{tiny_npz}", "--target", f"npz:{target}", "--out", "mine")
    words += ("--finetune-learning-rate", 0.0005)
    done = subprocess.run(command(*words, *SMALL), cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done


def weights(run: Run) -> dict[str, bytes]:
    network = keras.models.load_model(run.model_file, compile=False)
    return {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight).tobytes()
        for layer in network.layers
        for weight in layer.weights
    }


def trained_on(folder, dataset) -> Run:
    runs = [Run(path) for path in (folder / "runs").iterdir()]
    return next(run for run in runs if run.result.dataset == f"npz:{dataset}")


def test_a_transfer_leaves_four_runs_with_exactly_these_files(transferred, tiny_npz, target):
    folder, done = transferred
    whole = Run(folder / "mine")
    head = Run(whole.linear_probe)
    assert file_names(whole.folder) == {*RUN_FILES, "linear_probe"}
    assert file_names(head.folder) == RUN_FILES
    assert file_names(whole.folder / "figures") == {"phases.png", "confusion.png"}
    assert file_names(head.folder / "figures") == {"curves.png", "confusion.png"}
    assert len(list((folder / "runs").iterdir())) == 2
    source, scratch = trained_on(folder, tiny_npz), trained_on(folder, target)
    assert [len(run.metrics_rows()) for run in (source, scratch, head, whole)] == [2, 2, 3, 2]
    assert (head.result.phase, head.result.hyperparameters["crop_padding"], head.result.epochs) == (
        "linear_probe",
        0,
        3,
    )
    assert (whole.result.phase, whole.result.hyperparameters["crop_padding"], whole.result.source) == (
        "fine_tuning",
        4,
        f"npz:{tiny_npz}",
    )
    assert tuple(run.result.hyperparameters["learning_rate"] for run in (head, whole)) == (0.001, 0.0005)
    assert whole.confusion().shape == (2, 2)
    for words in (
        "linear probe: 18 weights, 3 epochs",
        "fine-tuning: 330 weights, 2 epochs",
        "report: mine/report.md",
    ):
        assert words in done.stdout, words
    assert "from scratch" in whole.report_file.read_text()


def test_the_linear_probe_keeps_the_weights_of_the_source_and_fine_tuning_does_not(transferred, tiny_npz):
    folder, _ = transferred
    source, head, whole = (
        weights(run)
        for run in (trained_on(folder, tiny_npz), Run(folder / "mine" / "linear_probe"), Run(folder / "mine"))
    )
    body = [name for name in source if not name.startswith("logits")]
    assert len(body) >= 8
    assert all(head[name] == source[name] for name in body)
    assert all(whole[name] != source[name] for name in body if "normalise" not in name)


def test_the_same_command_again_trains_nothing(transferred):
    folder, _ = transferred
    done = subprocess.run(
        command("--config", "mine/config.json", "--out", "mine"), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "already complete, skipping" in done.stdout
    assert "epoch" not in done.stderr


@pytest.mark.slow
def test_a_run_is_the_source_and_two_targets_are_compared(transferred, kapp, tmp_path, tiny_npz, target):
    folder, _ = transferred
    done = kapp(
        "transfer",
        *("--source", trained_on(folder, tiny_npz).folder, "--target", f"npz:{target}", f"npz:{tiny_npz}"),
        *("--head", "mlp", "--no-scratch-baseline", "--out", "both", *SMALL[:6]),
    )
    assert done.returncode == 0, done.stderr
    assert file_names(tmp_path) == {"both"}  # nothing else was trained
    runs = [Run(path) for path in sorted((tmp_path / "both").iterdir())]
    assert {run.result.model for run in runs} == {NETWORK}
    overlap = {run.result.dataset: run.result.validation_overlap for run in runs}
    assert overlap == {f"npz:{target}": (), f"npz:{tiny_npz}": (0,)}  # of other images; of the same split
    summary = kapp("report", "--runs", *(run.folder for run in runs), "--out", "side")
    assert summary.returncode == 0, summary.stderr
    assert len(list((tmp_path / "side" / "runs").iterdir())) == 4  # both phases of each
    page = (tmp_path / "side" / "README.md").read_text()
    assert page.count("figures/phases-") == 2
    again = kapp("report", "--runs", *(tmp_path / "side" / "runs").iterdir(), "--out", "again")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_foreign_file_is_the_source_and_no_image_is_held_out(kapp, tmp_path, target):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    keras.Model(inputs, keras.layers.Dense(7, activation="softmax")(x)).save(tmp_path / "mine.keras")
    done = kapp(
        "transfer",
        *(
            "--source",
            "mine.keras",
            "--target",
            f"npz:{target}",
            "--validation-images",
            0,
            "--validate-every",
            40,
        ),
        *("--out", "run", *SMALL[:6]),
    )
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert (run.result.model, run.result.source) == ("mine", "mine")
    assert (run.result.validation_images, run.result.val_accuracy) == (0, None)
    assert [row["epoch"] for row in run.metrics_rows()] == [i / 5 for i in range(1, 11)]  # 40 of 200 images
    assert run.result.best_epoch == 2
    assert "no image was held out for selection" in run.report_file.read_text()


def test_an_unknown_source_is_answered_with_every_form_of_one():
    with pytest.raises(ConfigError, match="unknown source 'cifar11'. Did you mean 'cifar10'?") as refused:
        transfer.Config(source="cifar11").check()
    for form in ("tfds:NAME", "npz:PATH", "folder:PATH", "a run folder", "a .keras file"):
        assert form in str(refused.value)


def test_a_run_of_an_unknown_network_is_a_source_with_and_without_a_model(tmp_path):
    """A run that was transferred from the file of another library's network."""
    run = Run.create(tmp_path / "run", example_records.config(width=1.0))
    run.write_result(replace(example_records.RESULT, model="mine"))
    for flags, model in (([], None), (["--model", "conv_1"], "conv_1")):
        config = cli.parse(transfer.Config, ["--source", str(run.folder), "--target", "shapes:near", *flags])
        config.check()
        assert config.resolved().model == model


def test_the_network_from_scratch_is_like_the_source(tmp_path):
    """Its pooling and its code variants, too."""
    network = {"width": 0.5, "pooling_norm": 3.0, "code_variants": ["relu_logits", "schedule"]}
    run = Run.create(tmp_path / "run", example_records.config(**network))
    run.write_result(replace(example_records.RESULT, model="base_c"))
    words = ["--source", str(run.folder), "--target", "shapes:near"]
    settings = cli.parse(transfer.Config, [*words, "--code-variants", "bias_decay"]).resolved()
    expected = NetworkOptions(0.5, 3.0, ("relu_logits", "bias_decay"))  # schedule is of the training
    assert settings.scratch_settings().network == expected
    for flags in (["--width", "1"], ["--pooling-norm", "2"], ["--code-variants", "dropout"]):
        with pytest.raises(ConfigError, match=f"{flags[0]} is not as in the source, the run .*leave it out"):
            cli.parse(transfer.Config, [*words, *flags]).check()
    same = ["--width", "0.5", "--pooling-norm", "3", "--code-variants", "relu_logits"]
    cli.parse(transfer.Config, [*words, *same]).check()


def test_what_cannot_be_a_source_is_refused(transferred, kapp, tmp_path, tiny_npz):
    folder, _ = transferred
    run = trained_on(folder, tiny_npz).folder
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(inputs))).save(tmp_path / "large.keras")
    keras.Model(inputs, keras.layers.Flatten()(inputs)).save(tmp_path / "headless.keras")
    for message, *words in (
        (f"--model is conv_1, but the source is a run of {NETWORK}", "--source", run, "--model", "conv_1"),
        ("large.keras takes images of (32, 32, 3), the data set has (8, 8, 3)", "--source", "large.keras"),
    ):
        done = kapp("transfer", *words, "--target", f"npz:{tiny_npz}", "--batch-size", 20)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
