"""Wrong input to a sweep: one clear line, exit status 2, nothing written."""

import subprocess
import sys
from dataclasses import replace

import pytest

from kapp import cli
from kapp.errors import ConfigError
from kapp.recipes import sweep
from kapp.sweep_folder import Sweep


def parse(words: str) -> sweep.Config:
    recipe, *flags = words.split()
    return cli.parse(sweep.CONFIGS[recipe], flags)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("distil", "unknown recipe to sweep 'distil'. Did you mean 'distill'?"),
        (
            "train --search learning_rte",
            "unknown --search of train 'learning_rte'. Did you mean 'learning_rate'?",
        ),
        ("train --search label_weight", "unknown --search of train 'label_weight'"),
        ("train --search-range learning_rate=1", "it must be like learning_rate=LOW:HIGH"),
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
    ("words", "message"),
    [
        ("train --trials 0", "--trials is 0: it must be at least 1"),
        ("train --workers 0", "--workers is 0: it must be at least 1"),
        ("train --validation-images 0", "a sweep selects by validation images"),
        ("train --tuner hyperband --epochs 2", "--epochs is 2, but hyperband trains many trials"),
        ("train --budget 10M", "--budget goes with --search layers or widths"),
        ("train --budget ten --search widths", "--budget is 'ten'"),
        ("train --search widths --model conv_1", "conv_1 isn't a network of"),
        ("distill --search mixup --distillation-loss nkd", "nkd needs one label per image"),
        ("distill --search temperature", "is prob_mse, which has no temperature"),
        ("train --rates 0.1 0.01 --milestones 1 --schedule multistep --search learning_rate",
         "--rates are the learning rates"),
        ("transfer --target shapes --rates 0.1 0.01 --milestones 1 --search probe_learning_rate",
         "--search probe_learning_rate: --rates are the learning rates: leave out --rates"),
        ("train --scheduler 5000", "--scheduler is '5000': it must be like tls://10.0.0.5:8786"),
        ("train --scheduler tcp://10.0.0.5:8786", "isn't encrypted"),
        ("train --scheduler tls://10.0.0.5:8786", "needs --tls-ca, --tls-cert and --tls-key"),
        ("train --scheduler tls://10.0.0.5:8786 --tls-ca a --tls-cert b --tls-key c",
         "--tls-ca a: there is no such file"),
        ("train --scheduler tcp://127.0.0.1:8786 --tls-ca a", "--tls-ca goes with a --scheduler at tls://"),
        ("train --tls-key a", "--tls-key goes with --scheduler"),
        ("train --insecure", "--insecure goes with --scheduler"),
        ("train --scheduler tcp://127.0.0.1:8786 --dashboard", "--dashboard is for workers of this machine"),
        ("train --coordinator a:1 --process-id 0 --num-processes 2", "--workers on one machine"),
        ("transfer --target shapes:near shapes:far", "a sweep has one"),
    ],
)  # fmt: skip
def test_what_is_refused(words, message):
    with pytest.raises(ConfigError) as error:
        parse(words).check()
    assert message in str(error.value)


def test_images_without_a_label_count_in_a_sweep_of_students():
    """The student trains on 10,000 images, of which 1,000 have a label."""
    words = "--teacher teacher_1 --student linear_3 --dataset shapes --labeled 1000 --validate-every 9000"
    words = f"distill {words} --epochs 5 --teacher-epochs 20"
    config = parse(words)
    config.check()
    plan = sweep.make_plan(config, words.split()[1:])
    assert plan.config.settings["validate_every"] == 9000


def test_schedulers_on_this_machine_and_encrypted_ones_are_accepted(tmp_path):
    parse("train --scheduler tcp://127.0.0.1:8786").check()
    parse("train --scheduler tcp://10.0.0.5:8786 --insecure").check()
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    files = " ".join(f"--tls-{name} {tmp_path / name}" for name in ("ca", "cert", "key"))
    parse(f"train --scheduler tls://10.0.0.5:8786 {files}").check()


def test_a_value_with_a_flag_is_not_searched():
    def names(words: str) -> list[str]:
        return [each.name for each in sweep.searched(parse(words), words.split())]

    assert names("train") == ["learning_rate", "momentum", "weight_decay", "dropout"]
    assert names("train --momentum=0.8 --learning-rate 0.1") == ["weight_decay", "dropout"]
    assert names("distill") == [*names("train"), "label_weight"]
    assert names("distill --distillation-loss kl")[-1] == "temperature"
    assert names("train --model 64fc-10fc --search layers widths")[:2] == ["layers", "width_2"]
    assert names("transfer --rates 0.1 0.01 --milestones 1") == ["momentum", "weight_decay"]
    assert names("train --model all_cnn_c") == ["learning_rate", "momentum", "weight_decay"]
    with pytest.raises(ConfigError, match="nothing is left to search"):
        names("train --learning-rate 0.1 --momentum 0.9 --weight-decay 0 --model all_cnn_c")


def test_baselines_are_trained_with_the_best_trial_alone():
    config = parse("distill --baseline --out mine")
    assert config.recipe.baseline
    assert not config.settings.baseline
    assert config.settings.output.out is None


@pytest.mark.parametrize(("module", "name"), [("kapp.tuning.oracle", "KerasTuner"), ("kapp.cluster", "Dask")])
def test_a_missing_package_is_named_with_its_installation(monkeypatch, module, name):
    monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"{name}, which isn't installed: pip install 'kapp\[sweep\]'"):
        parse("train").check()


def test_a_missing_bokeh_is_named_with_its_installation(monkeypatch):
    monkeypatch.setattr("kapp.recipes.settings.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="--dashboard needs Bokeh, which isn't installed: pip install bokeh"
    ):
        parse("train --dashboard").check()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["distill", "--epoch", "3"]])
def test_help_and_wrong_flags_need_no_keras(arguments):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['kapp', *{arguments}]\n"
        "try:\n"
        "    runpy.run_module('kapp.recipes.sweep', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, file=sys.stderr)\n"
        "heavy = 'keras keras_tuner sklearn tensorflow jax torch pandas matplotlib distributed'.split()\n"
        "sys.exit(99 if sys.modules.keys() & set(heavy) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert ("--include-default" in done.stdout) == (arguments == ["train", "--help"])
    if "--epoch" in arguments:
        assert "--epochs" in done.stderr


def test_folders_with_another_sweep_or_other_files_are_refused(kapp, tmp_path, tiny_npz):
    small = f"train --dataset npz:{tiny_npz} --model 8fc-3fc --batch-size 20 --epochs 1"

    def refused(out: str, status: int, message: str) -> None:
        done = kapp("sweep", *small.split(), "--out", out)
        assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
        assert message in done.stderr

    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    refused("notes", 2, "contains files but no sweep")
    config = sweep.make_plan(parse(small), small.split()).config
    with Sweep.open(tmp_path / "other", replace(config, tuner="random")) as other:
        path = other.folder / "sweep.json"
    refused("other", 2, "other contains another sweep (tuner: 'random' -> 'bayesian'). Choose")
    path.write_text("{")
    refused("other", 1, "sweep.json is damaged")
