import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module

import pytest

from kapp import cli
from kapp.errors import ConfigError, KappError
from kapp.recipes import distill, train


def test_a_runs_config_file_runs_it_again_and_flags_win(tmp_path):
    path = tmp_path / "config.json"
    flags = "--teacher teacher_1 deep_resnet --epochs 3 --out x --no-flip --learning-rate 2e-5"
    settings = cli.parse(distill.Config, flags.split()).resolved()
    path.write_text(
        json.dumps({"recipe": "distill", "backend": "jax", "data_sha256": "", **cli.as_json(settings)})
    )
    assert cli.parse(distill.Config, ["--config", str(path)]).resolved() == settings
    assert cli.parse(distill.Config, [f"--config={path}", "--epochs", "9"]).hparams.epochs == 9
    assert cli.parse(distill.Config, ["--flip", f"--config={path}"]).augmentation.flip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epoch": 3}', "unknown setting .* 'epoch'. Did you mean 'epochs'"),
        ("[1]", "isn't a run's config.json"),
        ("{", "Give it a run's config.json"),
        (None, "No such file or directory. Give it a run's config.json"),
        ("[" * 10**5, "Give it a run's config.json"),
        ('{"rates": ["0.1", "--overwrite"]}', "rates in .* is '--overwrite': .* can't begin with a hyphen"),
        ('{"model": "--overwrite"}', "can't begin with a hyphen"),
        ('{"model": {"a": 1}}', "model in .* is {'a': 1}: a value must be text"),
        ('{"rates": [[0.1]]}', "rates in .* a value must be text"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, message):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        cli.parse(train.Config, ["--config", str(path)])


def test_a_setting_of_the_wrong_type_is_refused_as_a_flag_would_be(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text('{"epochs": "three"}')
    with pytest.raises(SystemExit) as end:
        cli.parse(train.Config, ["--config", str(path)])
    assert end.value.code == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "epochs"), [("teacher_1", 250), ("linear_3", 75), ("all_cnn_c", 350), ("64fc-10fc", 75)]
)
def test_training_lasts_as_long_as_in_the_models_paper(model, epochs):
    assert train.Config(model=model).resolved().hparams.epochs == epochs


def test_distillation_lasts_as_long_as_ratusznik_et_al():
    config = distill.Config(student="shallow_resnet").resolved()
    assert (config.hparams.epochs, config.baseline_epochs) == (200, 75)


@dataclass
class Empty:
    """A config for the tests."""

    def check(self) -> None:
        pass


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (name, "The same command resumes from the last checkpoint.")
        for name in ("train", "distill", "transfer")
    ]
    + [(name, "No file is left half written.") for name in ("export", "evaluate", "report")],
)
def test_an_interrupted_command_says_what_becomes_of_its_files(capsys, monkeypatch, recipe, message):
    def main(config):
        raise KeyboardInterrupt

    config_type = import_module(f"kapp.recipes.{recipe}").Config
    monkeypatch.setattr(cli, "parse", lambda *_: Empty())
    with pytest.raises(SystemExit) as end:
        cli.run(config_type, main, [])
    assert end.value.code == 130
    assert capsys.readouterr().err == f"\nkapp: interrupted. {message}\n"


@pytest.mark.parametrize(
    "words",
    [
        "kapp.recipes.train --help",  # which tyro prints
        "kapp.recipes.sweep --help",
        "kapp.recipes --help",
    ],
)
def test_a_command_whose_reader_has_seen_enough_ends_without_a_word(words):
    """As in `kapp train --help | head -3`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", *words.split()], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("recipe", ["train", "distill", "transfer", "report"])
def test_help_and_wrong_flags_need_neither_keras_nor_numpy(recipe):
    """They take less than half a second."""
    program = (
        "import runpy, sys\n"
        "sys.argv = ['kapp', ARGUMENTS]\n"
        "try:\n"
        f"    runpy.run_module('kapp.recipes.{recipe}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    heavy = ('keras', 'tensorflow', 'jax', 'torch', 'numpy', 'pandas', 'matplotlib')\n"
        "    sys.exit(99 if sys.modules.keys() & set(heavy) else end.code)\n"
    )
    for arguments, status in (("'--help'", 0), ("'--epoch', '3'", 2)):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("ARGUMENTS", arguments)], capture_output=True
        )
        assert done.returncode == status, done.stderr.decode()
        assert ("--config FILE" in done.stdout.decode()) == (status == 0)


@pytest.mark.parametrize("columns", ["1", "5"])
def test_help_fits_a_terminal_of_few_columns(columns):
    done = subprocess.run(
        [sys.executable, "-m", "kapp.recipes.train", "--help"],
        env={**os.environ, "COLUMNS": columns},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert "--learning-rate" in done.stdout


def test_keras_starts_without_scikit_learn():
    program = "import sys; from kapp import cli; cli.start_keras(); print('sklearn' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]


def test_what_is_absent_is_absent_for_a_while_only(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with cli.absent("wave"), pytest.raises(ModuleNotFoundError):
        import_module("wave")
    import_module("wave")
    with cli.absent("wave"):
        import_module("wave")  # somebody has it already


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(13, "Permission denied", "closed/file"),
            "cannot read or write closed/file:",
        ),
        (OSError(36, "File name too long", "x" * 9), "cannot read or write xxxxxxxxx: File name too long"),
        (
            MemoryError("Unable to allocate 7 TiB"),
            "not enough memory (Unable to allocate 7 TiB). Try",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 8 bytes\nmore"),
            "not enough memory (RESOURCE_EXHAUSTED: 8",
        ),
        (RecursionError("maximum recursion depth"), "a file is nested too deeply (maximum recursion depth)."),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates"), "'a\\udcff' is a name that can't be"),
        (KappError("a class \x1b[2J"), "a class \\x1b[2J"),
    ],
)
def test_errors_of_the_system_are_one_line(capsys, monkeypatch, error, message):
    def main(config):
        raise error

    monkeypatch.setattr(cli, "parse", lambda *_: Empty())
    with pytest.raises(SystemExit) as end:
        cli.run(Empty, main, [])
    printed = capsys.readouterr().err
    assert (end.value.code, printed.count("\n")) == (1, 1)
    assert printed.startswith(f"kapp: {message}")


def test_a_bug_keeps_its_traceback(monkeypatch):
    def main(config):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "parse", lambda *_: Empty())
    with pytest.raises(ZeroDivisionError):
        cli.run(Empty, main, [])


def test_what_is_printed_controls_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(cli, "parse", lambda *_: Empty())
    cli.run(Empty, lambda _: print("cat\x1b[2J\r\u202egod \udcff é", flush=True), [])
    assert capsys.readouterr().out == "cat\\x1b[2J\\r\\u202egod \\udcff é\n"


@pytest.mark.parametrize("recipe", ["train", "distill", "transfer", "evaluate", "export", "report"])
def test_names_that_are_too_long_are_refused_in_one_line(recipe, capsys):
    long = "x" * 300
    words = {
        "train": f"--dataset npz:{long}",
        "distill": f"--teacher {long}.keras",
        "transfer": f"--source folder:{long}",
        "evaluate": f"--onnx {long}.onnx",
        "export": f"--run {long}",
        "report": f"--out x --runs {long}",
    }
    with pytest.raises(SystemExit) as end:
        cli.run(import_module(f"kapp.recipes.{recipe}").Config, lambda _: None, words[recipe].split())
    assert (end.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
