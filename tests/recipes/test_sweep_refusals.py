"""Bad input to a sweep: one clear line, exit status 2, nothing written."""

import subprocess
import sys

import pytest

from kapp.errors import WrongValue
from kapp.recipes import sweep


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("distil", "unknown recipe to sweep 'distil'. Did you mean 'distill'?"),
        (
            "train --search learning_rte",
            "unknown --search of train 'learning_rte'. Did you mean 'learning_rate'?",
        ),
        ("train --search label_weight", "unknown --search of train 'label_weight'"),
        ("train --range learning_rate=1", "it must be like learning_rate=LOW:HIGH"),
        (
            "train --learning-rate 0.1 --search learning_rate",
            "--learning-rate fixes what --search learning_rate",
        ),
        ("distill --student liner_3", "unknown network 'liner_3'. Did you mean 'linear_3'?"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_before_anything_is_written(kapp, tmp_path, arguments, message):
    done = kapp("sweep", *arguments.split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("kapp: ")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (sweep.Train, {"trials": 0}, "--trials is 0: it must be at least 1"),
        (sweep.Train, {"workers": 0}, "--workers is 0: it must be at least 1"),
        (sweep.Train, {"validation": 0}, "a sweep chooses by validation images"),
        (sweep.Train, {"tuner": "hyperband", "epochs": 2}, "--epochs is 2, but hyperband trains many trials"),
        (sweep.Train, {"budget": "10M"}, "--budget goes with --search layers or widths"),
        (sweep.Train, {"budget": "ten", "search": ("widths",)}, "--budget is 'ten'"),
        (sweep.Train, {"search": ("widths",), "model": "conv_1"}, "conv_1 isn't a network of"),
        (sweep.Distill, {"search": ("temperature",)}, "and only kl has a temperature"),
        (sweep.Train, {"rates": (0.1, 0.01), "milestones": (1,), "schedule": "multistep",
                       "search": ("learning_rate",)}, "--rates are the learning rates"),
        (sweep.Train, {"worker": "a"}, "--worker needs --oracle HOST:PORT"),
        (sweep.Train, {"oracle": "5000"}, "--oracle is '5000': it must be HOST:PORT"),
        (sweep.Train, {"oracle": "127.0.0.1:99999"}, "it must be HOST:PORT"),
        (sweep.Train, {"oracle": "0.0.0.0:5000"}, "is open to other machines"),
        (sweep.Train, {"oracle": "somewhere.example:5000"}, "add --open-to-network"),
        (sweep.Train, {"coordinator": "a:1", "process": "0/2"}, "share its trials: --workers on one machine"),
        (sweep.Transfer, {"target": ("shapes:near", "shapes:far")}, "a sweep has one"),
    ],
)  # fmt: skip
def test_what_is_refused(kind, settings, message):
    with pytest.raises(WrongValue) as error:
        kind(**settings).check()
    assert message in str(error.value)


@pytest.mark.parametrize("oracle", ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"])
def test_this_machine_alone_needs_no_leave(oracle):
    sweep.Train(oracle=oracle).check()
    sweep.Train(oracle="0.0.0.0:5000", open_to_network=True).check()


def test_what_a_flag_fixes_is_not_searched():
    def names(kind, *arguments: str, **settings) -> list[str]:
        config = kind(**settings)
        return [each.name for each in sweep.searched(config, config.base(), arguments)]

    assert names(sweep.Train) == ["learning_rate", "momentum", "weight_decay", "dropout"]
    assert names(sweep.Train, "--momentum=0.8", "--learning-rate", "0.1") == ["weight_decay", "dropout"]
    assert names(sweep.Distill) == [*names(sweep.Train), "label_weight"]
    assert names(sweep.Distill, objective="kl")[-1] == "temperature"
    assert names(sweep.Train, model="all_cnn_c") == ["learning_rate", "momentum", "weight_decay"]
    with pytest.raises(WrongValue, match="nothing is left to search"):
        names(sweep.Train, "--learning-rate", "--momentum", "--weight-decay", model="all_cnn_c")


def test_without_kerastuner_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("kapp.tuning.oracle.find_spec", lambda name: None)
    with pytest.raises(WrongValue, match=r"KerasTuner, which isn't installed: pip install 'kapp\[sweep\]'"):
        sweep.Train().check()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["distill", "--epoch", "3"]])
def test_help_and_wrong_flags_need_no_keras(arguments):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['kapp', *{arguments}]\n"
        "try:\n"
        "    runpy.run_module('kapp.recipes.sweep', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, file=sys.stderr)\n"
        "heavy = ('keras', 'keras_tuner', 'sklearn', 'tensorflow', 'jax', 'torch', 'pandas', 'matplotlib')\n"
        "sys.exit(99 if sys.modules.keys() & set(heavy) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert ("--include-default" in done.stdout) == (arguments == ["train", "--help"])
    if "--epoch" in arguments:
        assert "--epochs" in done.stderr


def test_a_folder_that_holds_another_sweep_or_something_else(kapp, tmp_path, tiny_npz):
    small = ("train", "--dataset", f"npz:{tiny_npz}", "--model", "8fc-3fc", "--batch-size", 20, "--epochs", 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    done = kapp("sweep", *small, "--out", "notes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds files but no sweep" in done.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sweep.json").write_text('{"tuner": "random"}')
    done = kapp("sweep", *small, "--out", "other")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "other holds another sweep (tuner: 'random' -> 'bayesian'" in done.stderr
    (tmp_path / "other" / "sweep.json").write_text("{")
    done = kapp("sweep", *small, "--out", "other")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "sweep.json is damaged" in done.stderr
