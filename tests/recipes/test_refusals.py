"""Bad input by message and exit status: one clear line, and nothing lost."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from kapp import cli
from kapp.data import sources
from kapp.errors import ConfigError
from kapp.recipes import distill, export, report, reproduce, train
from kapp.run_folder import METRICS, Run
from tests import example_records
from tests.reporting.helpers import fabricate
from tests.training.helpers import small_network


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--teacher deep_resnt", "unknown teacher 'deep_resnt'. Did you mean 'deep_resnet'?"),
        ("--teacher old.h5", "kapp doesn't. Save the model as .keras"),
        ("--teacher gone.keras", "there is no file 'gone.keras'"),
        ("--student liner_3", "unknown network 'liner_3'. Did you mean 'linear_3'?"),
        ("--student 64c-hello-10fc", "'hello' in '64c-hello-10fc' is not a layer"),
        ("--epochs -1", "--epochs is -1: it must be at least 1"),
        ("--label-weight 2", "the label weight is 2.0: above 1, set the distill weight as well"),
        ("--distill-weight -1", "the distill weight is -1.0: it must be 0 or more"),
        ("--temperature 0", "--temperature is 0.0: it must be above 0"),
        ("--width 0", "--width is 0.0: it must be above 0"),
        ("--learning-rate nan", "--learning-rate is nan"),
        ("--dataset cifar11", "unknown data set 'cifar11'. Did you mean 'cifar10'?"),
        ("--dataset npz:/nowhere.npz", "there is no file '/nowhere.npz'"),
        ("--data-dir /nowhere", "there is no folder '/nowhere'"),
        ("--warmup-epochs 3", "--warmup-epochs goes with --schedule cosine or linear"),
        ("--mixup -0.1", "--mixup is -0.1: it must be at least 0"),
        ("--cutmix inf", "--mixup and --cutmix must be finite"),
        ("--random-erasing 1.5", "--random-erasing is 1.5: it must be at most 1"),
        ("--crop-scale 0", "--crop-scale is 0.0: it must be above 0"),
        ("--crop-scale 2", "--crop-scale is 2.0: it must be at most 1"),
        ("--hue 0.6", "--hue is 0.6: it must be at most 0.5"),
        ("--saturation nan", "--saturation is nan"),
        ("--brightness -1", "--brightness is -1.0: it must be at least 0"),
        (
            "--mixup 1 --distillation-loss dkd",
            "dkd needs one label per image, but --mixup and",
        ),
        ("--unlabeled cifar10", "--unlabeled is cifar10: it must be npz:PATH or folder:PATH"),
        ("--train-images 8", "--train-images is 8: it must be at least one batch"),
        ("--learning-rate 1e-320", "--learning-rate is 1e-320: it must be from 1e-37 to 1e+37"),
        ("--learning-rate 1e308", "--learning-rate is 1e+308: it must be from 1e-37 to 1e+37"),
        ("--weight-decay 1e300", "--weight-decay is 1e+300: it must be at most 1e+37"),
        ("--weight-decay inf", "--weight-decay is inf: it must be finite"),
        ("--mixup 1e-310", "--mixup is 1e-310: it must be 0, or at least 1e-37"),
        ("--brightness 1e-320", "--brightness is 1e-320: it must be 0, or at least 1e-37"),
        ("--label-smoothing 1", "--label-smoothing is 1.0: it must be below 1"),
        ("--label-smoothing -0.1", "--label-smoothing is -0.1: it must be at least 0"),
        ("--ema 1", "--ema is 1.0: it must be below 1"),
        ("--ema nan", "--ema is nan"),
        ("--nesterov True", "--nesterov goes with --optimizer sgd"),
        ("--optimizer sgd --momentum 0 --nesterov True", "--nesterov needs a --momentum above 0"),
        ("--optimizer lion --momentum 0", "--optimizer lion needs a --momentum above 0"),
        ("--bias-scaler 64", "--bias-scaler goes with --optimizer sgd"),
        ("--bias-scaler 0", "--bias-scaler is 0.0: it must be above 0"),
        ("--no-flip --flip-order alternating", "--flip-order goes with --flip"),
        ("--momentum 1", "--momentum is 1.0: it must be below 1"),
        ("--epochs 99999999999", "--epochs is 99999999999: it must be at most 2147483647"),
        ("--student 64c^9999999999-10fc", "'64c^9999999999' in '64c^9999999999-10fc' is not a layer"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_before_anything_is_written(kapp, tmp_path, arguments, message):
    done = kapp("distill", *arguments.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("kapp: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_flag_is_answered_with_the_right_one(kapp, tmp_path):
    done = kapp("distill", "--techer", "deep_resnet")
    assert done.returncode == 2
    assert "--teacher" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backend_that_is_none_is_refused(kapp):
    done = kapp("train", KERAS_BACKEND="jaxx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unknown KERAS_BACKEND 'jaxx'. Did you mean 'jax'?" in done.stderr


def test_an_output_folder_that_cannot_be_written(kapp, tmp_path, tiny_npz):
    (tmp_path / "file").write_text("mine")
    done = kapp("train", "--dataset", f"npz:{tiny_npz}", "--out", "file/run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "file is a file, not a folder" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_folder_that_holds_something_else(kapp, tmp_path, tiny_npz):
    (tmp_path / "notes.txt").write_text("mine")
    done = kapp("train", "--dataset", f"npz:{tiny_npz}", "--out", ".", "--overwrite")
    assert done.returncode == 2
    assert "contains files but no run" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_files_that_are_damaged_or_unfit(kapp, tmp_path, tiny_npz):
    """What shows only once Keras runs: a truncated set, a wrong shape, a teacher of other classes."""
    (tmp_path / "cut.npz").write_bytes(tiny_npz.read_bytes()[:5000])
    flat = {name: np.zeros((30, 64), np.uint8) for name in ("x_train", "x_test")}
    labels = {name: np.arange(30) % 2 for name in ("y_train", "y_test")}
    np.savez(tmp_path / "flat.npz", **flat, **labels)
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(inputs))).save(tmp_path / "seven.keras")

    fit = ("--dataset", f"npz:{tiny_npz}", "--no-baseline")
    for status, message, *arguments in (
        (1, "cut.npz is damaged or no .npz file", "--dataset", "npz:cut.npz", "--no-baseline"),
        (2, r"x_train is uint8 \(30, 64\): images must be", "--dataset", "npz:flat.npz", "--no-baseline"),
        (2, "less than one batch, --batch-size 500", *fit, "--batch-size", 500),
        (2, "seven.keras has 7 classes, the data set has 3", *fit, "--teacher", "seven.keras"),
    ):
        teacher = () if "--teacher" in arguments else ("--teacher", "seven.keras")
        done = kapp("distill", *teacher, *arguments)
        assert done.returncode == status, done.stderr
        assert re.search(f"^kapp: .*{message}", done.stderr, re.MULTILINE)
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_refused_loses_nothing_and_blocks_nothing(kapp, tmp_path, tiny_npz):
    """Not even with --overwrite; and the corrected command may use the same folder."""
    small = ("--model", "8fc-3fc", "--epochs", 1, "--batch-size", 20, "--out", "mine")
    assert kapp("train", *small, "--dataset", "npz:gone.npz").returncode == 2
    (tmp_path / "cut.npz").write_bytes(tiny_npz.read_bytes()[:5000])
    assert kapp("train", *small, "--dataset", "npz:cut.npz").returncode == 1
    assert not (tmp_path / "mine").exists()

    (tmp_path / "good.npz").write_bytes(tiny_npz.read_bytes())
    assert kapp("train", *small, "--dataset", "npz:good.npz").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    refused = kapp("train", *small, "--dataset", "npz:cut.npz", "--overwrite")
    assert refused.returncode == 1
    unfit = ("--teacher", "mine", "--dataset", f"npz:{tiny_npz}", "--out", "other", "--batch-size", 20)
    (tmp_path / "mine" / "result.json").rename(tmp_path / "aside.json")
    unfinished = kapp("distill", *unfit)
    assert (unfinished.returncode, unfinished.stderr.count("\n")) == (2, 1)
    assert "teacher 'mine' is an unfinished run" in unfinished.stderr
    (tmp_path / "aside.json").rename(tmp_path / "mine" / "result.json")
    assert before == {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}

    with np.load(tmp_path / "good.npz") as held:
        np.savez(tmp_path / "good.npz", **{**held, "x_test": 255 - held["x_test"]})
    other_data = kapp("train", *small, "--dataset", "npz:good.npz")
    assert other_data.returncode == 2
    assert "contains another run (data_sha256" in other_data.stderr


def test_no_network(kapp, tmp_path):
    """Nothing is reachable through this proxy, on any machine."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    (tmp_path / "empty").mkdir()
    done = kapp("train", "--data-dir", "empty", **nowhere)
    assert done.returncode == 1
    assert re.search("^kapp: no network.*--data-dir.*npz:PATH.*--dataset shapes", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_an_unknown_recipe_is_answered_with_the_known_ones(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kapp.recipes", "distil"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "unknown recipe 'distil'. Did you mean 'distill'?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--crop-padding 100000", "--crop-padding is 100000: it must be at most 8, the size of the images"),
        (
            "--validate-every 1000",
            "--validate-every is 1000: it must be at most 320, the images",
        ),
        ("--model 64c-mp-mp-mp-mp-3fc", "the layers don't fit images of (8, 8, 3): Pooling"),
        ("--width 1e12", "needs at least"),
        ("--model 99999999fc-99999999fc-3fc", "GiB of memory; this machine has"),
    ],
)
def test_what_cannot_work_with_the_data_is_refused_before_anything_is_written(
    arguments, message, tiny_npz, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ["--dataset", f"npz:{tiny_npz}", "--epochs", "2", "--batch-size", "20", *arguments.split()]
    config = cli.parse(train.Config, ["--model", "8fc-3fc", *words])
    config.check()
    with pytest.raises(ConfigError) as error:
        train.main(config)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def check(recipe, *words) -> None:
    """Parse and check a command line; a run of it in this process would call Keras."""
    cli.parse(recipe.Config, [str(word) for word in words]).check()


def test_overwrite_never_deletes_what_the_command_reads(tmp_path, tiny_npz, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = Run.create("teacher", example_records.config())
    small_network().save(teacher.model_file)
    teacher.write_metrics([{"epoch": 1, **dict.fromkeys(METRICS, 0.5)}])
    teacher.write_result(example_records.RESULT)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    data_set = ("--dataset", f"npz:{tiny_npz}", "--batch-size", "20", "--epochs", "1")
    for name in ("teacher", "teacher/model.keras"):
        words = ["--teacher", name, "--student", "8fc-3fc", *data_set, "--out", "teacher", "--overwrite"]
        config = cli.parse(distill.Config, words)
        config.check()
        with pytest.raises(ConfigError, match="--overwrite would delete teacher"):
            distill.main(config)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}


def test_an_export_does_not_replace_its_network(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    small_network().save(tmp_path / "net.keras")
    words = ("--keras", tmp_path / "net.keras", "--classes", "a", "b", "c", "--out", tmp_path, "--overwrite")
    with pytest.raises(ConfigError, match="which this command reads"):
        check(export, *words)


@pytest.mark.parametrize("names", [("a", " ", "c"), ("a", "b\x1b[2J", "c"), ("a", "\udcff", "c")])
def test_an_export_has_names_that_can_be_printed(tmp_path, names):
    small_network().save(tmp_path / "net.keras")
    with pytest.raises(ConfigError, match="can't be printed"):
        check(export, "--keras", tmp_path / "net.keras", "--classes", *names, "--out", tmp_path / "out")


def test_a_report_replaces_no_page_of_another_project(tmp_path):
    run = Run.create(tmp_path / "run", example_records.config())
    (tmp_path / "README.md").write_text("# My project")
    with pytest.raises(ConfigError, match=r"has a README\.md of its own"):
        check(report, "--runs", run.folder, "--out", tmp_path)
    with pytest.raises(ConfigError, match=r"has a README\.md of its own"):
        check(reproduce, "--dataset", "shapes", "--out", tmp_path)
    check(report, "--runs", run.folder, "--out", tmp_path / "report")


def test_a_report_names_what_an_earlier_one_left_in_its_folder(tmp_path, capsys):
    runs = [fabricate(tmp_path / name).folder for name in "ab"]
    for selected in (runs, runs[:1]):
        report.main(report.Config(runs=tuple(selected), out=tmp_path / "out"))
    printed = capsys.readouterr().out
    assert printed.count(f"{tmp_path / 'out' / 'runs'} has runs of an earlier report") == 1
    assert "leaves out: b\n" in printed


def test_a_report_compares_with_one_of_its_runs(tmp_path):
    runs = [Run.create(tmp_path / name, example_records.config()).folder for name in ("a", "b")]
    words = ("--runs", runs[0], "--out", tmp_path / "report", "--compare-with")
    with pytest.raises(ConfigError, match=r"--compare-with .*b isn't one of the folders of --runs"):
        check(report, *words, runs[1])
    check(report, *words, f"{runs[0]}/")


@pytest.mark.parametrize("text", ["a\udcffb"])
def test_text_that_cannot_be_written_is_refused_first(tmp_path, text):
    run = Run.create(tmp_path / "run", example_records.config())
    for words in (("--note", text), ("--title", text), ("--out", text)):
        with pytest.raises(ConfigError, match="can't be decoded"):
            check(report, "--runs", run.folder, "--out", tmp_path / "report", *words)
    for name in (f"npz:{text}.npz", f"folder:{text}"):
        with pytest.raises(ConfigError, match="can't be decoded"):
            sources.check(name)
    for name in ("out", "dataset"):
        with pytest.raises(ConfigError, match="no name can have"):
            cli.as_flags(train.Config, {name: "a\0b"}, "config.json")


@pytest.mark.parametrize("mark", [{"model_type": "bert"}, {"name": "other", "backend": "jax"}])
def test_a_config_of_another_program_makes_no_run(tmp_path, mark):
    (tmp_path / "config.json").write_text(json.dumps(mark))
    (tmp_path / "report.md").write_text("mine")
    for overwrite in (False, True):
        with (
            pytest.raises(ConfigError, match="contains files but no run"),
            Run.open(tmp_path, example_records.config(), overwrite),
        ):
            pass
    assert (tmp_path / "report.md").read_text() == "mine"


@pytest.mark.slow
def test_closed_streams_lose_no_run(tmp_path, tiny_npz):
    """As of a service."""
    words = f"-m kapp.recipes.train --model 8fc-3fc --epochs 1 --batch-size 20 --dataset npz:{tiny_npz}"
    for closed, out in ((">&-", "a"), ("2>&-", "b"), (">&- 2>&- <&-", "c")):
        done = subprocess.run(
            f"exec {sys.executable} {words} --out {out} {closed}",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert (tmp_path / out / "result.json").is_file()
        assert (tmp_path / out / "report.md").is_file()


def test_a_wrong_setting_of_keras_is_one_line(kapp, tmp_path, tiny_npz):
    (tmp_path / "keras.json").write_text("[]")
    words = ("--dataset", f"npz:{tiny_npz}", "--model", "8fc-3fc", "--epochs", 1, "--batch-size", 20)
    done = kapp("train", *words, KERAS_HOME=str(tmp_path), MPLBACKEND="none such")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Check the installation, and keras.json" in done.stderr


def test_an_undecodable_class_name_is_refused_before_anything_is_written(tmp_path):
    for part in ("train", "test"):
        for name in (b"cat", b"\xff"):
            folder = os.path.join(os.fsencode(tmp_path), b"set", part.encode(), name)
            try:
                os.makedirs(folder)
            except OSError:  # macOS: its file systems accept valid UTF-8 only, so no such folder can exist
                pytest.skip("the file system has no such names")
    with pytest.raises(ConfigError, match=r"the class name '\\udcff' is empty, or has characters"):
        sources.check(f"folder:{tmp_path / 'set'}")


LIMITED = (
    "import resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
    "from kapp import cli\n"
    "from kapp.recipes import train\n"
    "cli.run(train.Config, train.main, sys.argv[2:])\n"
)


@pytest.mark.slow
def test_a_disk_that_is_full_in_a_training_is_one_line_and_the_same_command_resumes(tmp_path, tiny_npz, kapp):
    """No file can become larger than 20,000 bytes: `model.keras` does."""
    words = f"--model 64fc-3fc --epochs 2 --batch-size 20 --out mine --dataset npz:{tiny_npz}".split()
    full = subprocess.run(
        [sys.executable, "-c", LIMITED, "20000", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert full.returncode == 1, full.stderr
    assert full.stderr.splitlines()[-1].startswith("kapp: cannot write mine/model.keras: ")
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "mine").glob(".*-*"))
    assert kapp("train", *words).returncode == 0
