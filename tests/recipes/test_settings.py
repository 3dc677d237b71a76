"""What settings become that were left open, and which settings don't go together."""

import dataclasses
import json
import typing
from pathlib import Path

import keras
import numpy as np
import pytest

from kapp import cli, data
from kapp.errors import ConfigError
from kapp.papers import hu, jordan, ratusznik
from kapp.recipes import distill, train, transfer
from kapp.recipes.settings import CodeVariant
from kapp.run_folder import Run, default_folder
from tests.training.helpers import random_dataset

ROOT = Path(__file__).parents[2]


def parse(recipe, flags: str):
    return cli.parse(recipe.Config, flags.split())


def resolve(recipe, flags: str):
    return parse(recipe, flags).resolved()


def test_a_network_is_trained_as_its_paper_does():
    all_cnn_c, linear_3 = resolve(train, "--model all_cnn_c"), resolve(train, "--model linear_3")
    assert all_cnn_c.hparams == hu.hparams(350)
    assert all_cnn_c.augmentation.count == 2 * 11 * 11
    assert linear_3.hparams == ratusznik.hparams(75)
    assert linear_3.augmentation.count == 162
    assert resolve(distill, "--student all_cnn_c").hparams == ratusznik.hparams(300)


def test_airbench_is_trained_as_its_paper_does():
    """The published numbers are for a sum over 1,024 images, whose gradient Nesterov's momentum multiplies by
    1 + 1 / (1 - 0.85)."""
    settings = resolve(train, "--model airbench --batch-size 1024 --epochs 10")
    hparams = settings.hparams
    assert jordan.hparams(10).learning_rate * 4 == pytest.approx(11.5 / (1 + 1 / 0.15), abs=1e-3)
    assert hparams.weight_decay == pytest.approx(0.0153 / 11.5, rel=3e-3)
    assert (hparams.optimizer, hparams.momentum, hparams.nesterov) == ("sgd", 0.85, True)
    assert (hparams.schedule, hparams.warmup_epochs) == ("linear", 2)
    assert (settings.augmentation.crop_padding, settings.augmentation.flip_order) == (2, "alternating")
    assert resolve(train, "--model airbench --no-flip").augmentation.flip_order == "random"
    other = resolve(train, "--model airbench --optimizer muon --learning-rate 0.01 --ema 0").hparams
    assert (other.nesterov, other.bias_scaler, other.ema, other.label_smoothing) == (False, 1.0, 0.0, 0.2)
    assert not resolve(train, "--model airbench --nesterov False").hparams.nesterov
    assert resolve(train, "--model linear_3").augmentation.flip_order == "random"


def test_the_config_of_airbench_repeats_it(tmp_path):
    flags = "--model airbench --nesterov False --flip-order random --label-smoothing 0.1"
    settings = resolve(train, flags)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(cli.as_json(settings)))
    assert resolve(train, f"--config {file}") == settings


def test_a_linear_probe_has_no_averaged_weights():
    settings = resolve(transfer, "--ema 0.9 --label-smoothing 0.1")
    assert settings.linear_probe[0].ema == 0
    assert settings.fine_tuning[0].ema == settings.scratch_settings().hparams.ema == 0.9
    assert settings.linear_probe[0].label_smoothing == 0.1


def test_the_rate_falls_at_the_same_fractions_of_fewer_epochs():
    def milestones(flags: str) -> tuple[int, ...]:
        return resolve(train, flags).hparams.milestones

    assert milestones("--model base_c --epochs 35") == (20, 25, 30)
    assert milestones("--model base_c --epochs 1") == (1,)
    assert milestones("--model linear_3 --epochs 7 --schedule multistep") == (4, 5, 6)
    assert milestones("--model base_c --schedule cosine") == ()


def test_the_four_rates_of_hu():
    config = parse(train, "--model all_cnn_c --rates 0.005 0.001 0.0005 0.0001")
    config.check()
    hparams = config.resolved().hparams
    assert (hparams.learning_rate, hparams.milestones) == (0.005, (200, 250, 300))


def test_code_variants_of_the_training():
    hparams = resolve(train, "--model all_cnn_c --code-variants schedule batch").hparams
    assert (hparams.schedule, hparams.learning_rate, hparams.milestones) == ("constant", 0.001, ())
    assert (hparams.batch_size, hparams.momentum, hparams.weight_decay) == (4, 0.9, 0.001)


def test_normalization_of_the_code():
    """(x / 255 - mean) / std with the numbers of section 3.1, whatever the images are."""
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    found = []
    for variant in ("normalization", "batch"):
        options = resolve(train, f"--model base_c --width 0.1 --code-variants {variant}").network
        network = options.build("base_c", random_dataset(), 0)
        normalize = next(layer for layer in network.layers if type(layer).__name__ == "Normalization")
        found.append(keras.ops.convert_to_numpy(normalize(images)))
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    np.testing.assert_allclose(found[0], (images / 255 - mean) / std, rtol=1e-4, atol=1e-4)
    assert np.abs(found[1] - found[0]).max() > 0.1


def test_normalization_of_the_code_needs_rgb(tmp_path):
    images = {name: np.zeros((30, 32, 32, 1), np.uint8) for name in ("x_train", "x_test")}
    labels = {name: np.arange(30) % 2 for name in ("y_train", "y_test")}
    np.savez(tmp_path / "gray.npz", **images, **labels)
    dataset = data.load(f"npz:{tmp_path / 'gray.npz'}")
    settings = resolve(train, "--model base_c --code-variants normalization --batch-size 8")
    with pytest.raises(ConfigError, match=r"normalization is for RGB images; those of .* are \(32, 32, 1\)"):
        settings.check_data(dataset)  # before a run folder is written


def test_the_code_of_a_network_has_all_its_variants():
    """The literal of the flag, the table of the paper and the default of a whole reproduction agree."""
    assert set(typing.get_args(CodeVariant)) == set(hu.CODE_VARIANTS)
    assert set(hu.code_variants("all_cnn_a")) == set(hu.CODE_VARIANTS)
    assert set(hu.code_variants("base_c")) == {*hu.CODE_VARIANTS} - {"filters"}
    for model in hu.models():
        parse(train, f"--model {model} --code-variants {' '.join(hu.code_variants(model))}").check()


def test_a_warmup_is_a_fraction_of_each_training():
    flags = "--schedule cosine --epochs 100 --warmup-epochs 10 --baseline-epochs 50 --teacher-epochs 5"
    settings = resolve(distill, flags)
    assert settings.hparams.warmup_epochs == 10
    assert settings.baseline_settings().hparams.warmup_epochs == 5
    assert settings.teacher_settings("deep_resnet").hparams.warmup_epochs == 1  # at least one
    one = resolve(distill, f"{flags} --teacher-epochs 1").teacher_settings("deep_resnet").hparams
    assert one.warmup_epochs == 0  # and fewer than all
    long = resolve(transfer, "--schedule cosine --epochs 10 --warmup-epochs 9 --probe-epochs 3")
    assert long.linear_probe[0].warmup_epochs == 2
    assert resolve(distill, "--schedule cosine").baseline_settings().hparams.warmup_epochs == 0


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        (train, "--model all_cnn_c --pooling-norm inf"),
        (train, "--model base_c --pooling-norm 2.5 --code-variants corner schedule"),
        (train, "--model all_cnn_c --rates 0.1 0.05 0.01 0.005 --validation-images 0 --validate-every 4000"),
        (distill, "--teacher teacher_1 conv_1 --distillation-loss kl --no-flip --scale small"),
        (
            train,
            "--crop-scale 0.3 --hue 0.1 --saturation 0.3 --random-erasing 0.25 --mixup 0.2",
        ),
        (distill, "--cutmix 1 --mixup 0.4 --crop-padding 0"),
        (transfer, "--hue 0.5 --brightness 1 --target shapes:near --source shapes"),
        (transfer, "--target shapes:near shapes:far --source shapes --head mlp --no-scratch-baseline"),
    ],
)
def test_config_json_holds_every_setting(recipe, flags, tmp_path):
    settings = resolve(recipe, flags)
    (tmp_path / "config.json").write_text(json.dumps(cli.as_json(settings), allow_nan=False))
    config = cli.parse(recipe.Config, ["--config", str(tmp_path / "config.json")])
    config.check()
    assert config.resolved() == settings


@pytest.mark.parametrize("recipe", [train, distill])
def test_a_command_finds_the_runs_that_were_made_before_younger_settings(recipe):
    """The committed runs of the reproduction: the digest in the folder's name is that of today's settings."""
    name = recipe.__name__.rpartition(".")[2]
    folders = sorted((ROOT / "reports" / "reproduction" / "runs").glob(f"{name}-*"))[:3]
    assert folders
    for folder in folders:
        config = Run(folder).config
        assert not {"mixup", "labeled", "unlabeled"} & config.settings.keys()
        flags = cli.as_flags(recipe.Config, dict(config.settings), folder)
        settings = cli.as_json(cli.parse(recipe.Config, flags).resolved())
        today = dataclasses.replace(config, settings=settings)
        assert default_folder(today, ["any"]).name[-6:] == folder.name[-6:]


def test_a_scale_fills_in_only_what_is_left_open():
    settings = resolve(train, "--scale small --epochs 3")
    assert (settings.hparams.epochs, settings.network.width, settings.data.train_images) == (3, 0.125, 4000)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--pooling-norm 0.5", "--pooling-norm is 0.5: it must be at least 1"),
        ("--pooling-norm nan", "--pooling-norm is nan"),
        ("--pooling-norm 2 --model all_cnn_c", "--pooling-norm is 2.0, but all_cnn_c has no pooling"),
        ("--code-variants corner --model linear_3", "which doesn't train linear_3. It trains base_a,"),
        ("--code-variants batch --batch-size 8", "batch sets --batch-size to 4, not to 8: leave one of"),
        ("--code-variants schedule --schedule cosine", "sets --schedule to constant, not to cosine"),
        ("--code-variants filters", "--code-variants filters is of all_cnn_a: base_c has no such layer"),
        ("--code-variants bias_decay --optimizer adam", "bias_decay goes with --optimizer sgd, not adam"),
        ("--schedule cosine --warmup-epochs 9 --epochs 9", "--warmup-epochs is 9: it must be less than --ep"),
        ("--schedule cosine --warmup-epochs 9 --epochs 8", "must be less than --epochs, 8"),
        ("--milestones 3 2", "--milestones are 3 2: none must be smaller than the one before"),
        ("--mixup inf", "--mixup and --cutmix must be finite"),
        ("--milestones 0", "--milestones is 0: it must be at least 1"),
        ("--schedule cosine --milestones 3", "go with --schedule multistep"),
        ("--rates 0.1 0.01", "--rates has 2 values and --milestones 3: there must be one rate more"),
        ("--rates 0.1 0.0 --milestones 1", "--rates is 0.0: it must be above 0"),
        ("--rates 0.1 0.01 --milestones 1 --learning-rate 0.2", "leave out --learning-rate"),
        ("--validate-every 5", "--validate-every is 5: it must be at least one batch, --batch-size 128"),
        ("--validation-images -1", "--validation-images is -1: it must be at least 0"),
        ("--crop-padding -1", "--crop-padding is -1"),
        ("--seed -1", "--seed is -1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(flags, message):
    config = parse(train, f"--model base_c {flags}")
    with pytest.raises(ConfigError) as error:
        config.check()
    assert message in str(error.value)


def test_baseline_and_teacher_are_trained_as_the_student():
    settings = resolve(
        distill, "--teacher teacher_1 --epochs 70 --schedule multistep --baseline-epochs 7 --width 0.5"
    )
    baseline, teacher = settings.baseline_settings(), settings.teacher_settings("teacher_1")
    assert settings.hparams.milestones == (40, 50, 60)
    assert (baseline.hparams.epochs, baseline.hparams.milestones) == (7, (4, 5, 6))
    assert (teacher.hparams.epochs, teacher.network.width, teacher.model) == (250, 0.5, "teacher_1")


def test_the_rates_of_a_short_training_are_as_many():
    flags = (
        "--optimizer sgd --schedule multistep --epochs 35 --rates 0.05 0.01 0.005 0.001 --baseline-epochs 1"
    )
    settings = resolve(distill, flags)
    assert settings.hparams.milestones == (20, 25, 30)
    assert settings.baseline_settings().hparams.milestones == (1, 1, 1)


def test_a_teacher_comes_once():
    flags = "--teacher teacher_1 teacher_1 --teacher-epochs 2 5"
    with pytest.raises(ConfigError, match="--teacher has teacher_1 twice"):
        resolve(distill, flags).check()


def test_the_phases_of_a_transfer():
    settings = resolve(transfer, "--model all_cnn_c --epochs 35 --probe-epochs 7")
    (probe, probe_augmentation), (tuning, augmentation) = settings.linear_probe, settings.fine_tuning
    assert (probe.learning_rate, probe.milestones, probe_augmentation.crop_padding) == (0.05, (4, 5, 6), 0)
    assert (tuning.learning_rate, tuning.milestones, augmentation.crop_padding) == (0.05, (20, 25, 30), 5)
    assert settings.scratch_settings().hparams == hu.hparams(350)
    other = resolve(transfer, "--finetune-learning-rate 0.01 --probe-learning-rate 0.1")
    assert other.linear_probe[0].learning_rate == 0.1
    assert other.fine_tuning[0].learning_rate == 0.01
    one_milestone = resolve(transfer, "--model all_cnn_c --epochs 10 --probe-epochs 20 --milestones 5")
    assert one_milestone.linear_probe[0].milestones == (10,)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--source cifar11", "unknown source 'cifar11'. Did you mean 'cifar10'"),
        ("--source gone.keras", "there is no file 'gone.keras'"),
        ("--source old.h5", "Save the model as .keras"),
        ("--source npz:gone.npz", "there is no file 'gone.npz'"),
        ("--target shapes:nearr", "unknown data set 'shapes:nearr'. Did you mean 'shapes:near'"),
        ("--target", "--target needs at least one data set"),
        ("--model all_cnn_d", "unknown network 'all_cnn_d'. Did you mean 'all_cnn_c'"),
        ("--probe-epochs 0", "--probe-epochs is 0"),
        ("--finetune-learning-rate 0", "--finetune-learning-rate is 0"),
        ("--probe-crop-padding -1", "--probe-crop-padding is -1"),
        ("--source-images 10", "--source-images is 10: it must be at least one batch, --batch-size 128"),
        ("--target shapes:near shapes:near --out both", "two of --target have the same file name: leave out"),
        ("--rates 0.1 0.05 0.01 0.005 --probe-learning-rate 0.2", "--rates are the learning rates of both"),
        ("--rates 0.1 0.05 0.01 0.005 --finetune-learning-rate 0.2", "leave out --probe-learning-rate and"),
    ],
)
def test_a_transfer_refuses(flags, message):
    config = parse(transfer, flags)
    with pytest.raises(ConfigError) as error:
        config.check()
    assert message in str(error.value)


def test_a_teacher_may_be_a_notation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve(distill, "--teacher res-8c^2-16c^2-gap-10fc --teacher-epochs 5")
    assert [run.model for run in settings.needed_runs] == ["res-8c^2-16c^2-gap-10fc", "linear_3"]
    with pytest.raises(ConfigError, match="or a notation such as"):
        parse(distill, "--teacher 64c-hello-10fc").check()
    with pytest.raises(ConfigError, match="in pairs"):
        parse(distill, "--teacher res-8c^3-gap-10fc").check()
