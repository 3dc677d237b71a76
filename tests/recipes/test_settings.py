"""Which settings a training gets that were left open, and which of them don't go together."""

import json
import math

import pytest

from kapp import cli
from kapp.errors import WrongValue
from kapp.papers import all_convolutional as paper_a
from kapp.papers import deep_and_convolutional as paper_d
from kapp.recipes import distill, train, transfer


def test_a_network_is_trained_as_its_paper_does():
    of_a, of_d = train.Config(model="all_cnn_c").resolved(), train.Config(model="linear_3").resolved()
    assert of_a.training == paper_a.TRAINING
    assert (of_a.epochs, of_a.views.count) == (350, 2 * 11 * 11)
    assert of_d.training == paper_d.TRAINING
    assert (of_d.epochs, of_d.views.count) == (75, 162)
    assert distill.Config(student="all_cnn_c").resolved().training == paper_d.TRAINING


def test_the_rate_falls_at_the_same_shares_of_fewer_epochs():
    config = train.Config(model="base_c", epochs=35).resolved()
    assert config.training.milestones == (20, 25, 30)
    assert train.Config(model="base_c", epochs=1).resolved().training.milestones == (1,)
    assert train.Config(model="linear_3", epochs=7, schedule="multistep").resolved().milestones == (4, 5, 6)
    assert train.Config(model="base_c", schedule="cosine").resolved().milestones == ()


def test_paper_as_four_rates():
    config = train.Config(model="all_cnn_c", rates=(0.005, 0.001, 0.0005, 0.0001)).resolved()
    config.check_together()
    assert (config.learning_rate, config.milestones) == (0.005, (200, 250, 300))


def test_departures_of_the_training():
    config = train.Config(model="all_cnn_c", departures=("schedule", "batch")).resolved()
    how = config.training
    assert (how.schedule, how.learning_rate, how.batch_size, how.milestones) == ("constant", 0.001, 4, ())
    assert (how.momentum, how.weight_decay) == (0.9, 0.001)


@pytest.mark.parametrize(
    "config",
    [
        train.Config(model="all_cnn_c", pooling_norm=math.inf),
        train.Config(model="base_c", pooling_norm=2.5, departures=("corner", "schedule")),
        train.Config(model="all_cnn_c", rates=(0.1, 0.05, 0.01, 0.005), validation=0, validate_every=4000),
        transfer.Config(target=("shapes:near", "shapes:far"), source="shapes", head="mlp"),
    ],
)
def test_a_config_file_holds_all_of_it(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(cli.as_json(config.resolved()), allow_nan=False))
    read = cli.parse(type(config), ["--config", str(tmp_path / "config.json")])
    read.check()
    assert read.resolved() == config.resolved()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_norm": 0.5}, "--pooling-norm is 0.5: it must be at least 1"),
        ({"pooling_norm": math.nan}, "--pooling-norm is nan"),
        ({"pooling_norm": 2, "model": "all_cnn_c"}, "--pooling-norm is 2, but all_cnn_c has no pooling"),
        ({"departures": ("corner",), "model": "linear_3"}, "which doesn't train linear_3. It trains base_a,"),
        ({"departures": ("batch",), "batch_size": 8}, "batch sets --batch-size to 4, not to 8: leave one of"),
        ({"departures": ("schedule",), "schedule": "cosine"}, "sets --schedule to constant, not to cosine"),
        ({"milestones": (3, 2)}, "--milestones are 3 2: each must come after the one before"),
        ({"milestones": (0,)}, "--milestones is 0: it must be at least 1"),
        ({"schedule": "cosine", "milestones": (3,)}, "go with --schedule multistep"),
        ({"rates": (0.1, 0.01)}, "--rates are 2 and --milestones 3: there must be one rate more"),
        ({"rates": (0.1, 0.0), "milestones": (1,)}, "--rates is 0.0: it must be above 0"),
        ({"rates": (0.1, 0.01), "milestones": (1,), "learning_rate": 0.2}, "leave out --learning-rate"),
        ({"validate_every": 5}, "--validate-every is 5: it must be at least one batch, --batch-size 128"),
        ({"validation": -1}, "--validation is -1: it must be at least 0"),
        ({"shift": -1}, "--shift is -1"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(WrongValue, match=message.replace("(", "\\(")):
        train.Config(**{"model": "base_c", **settings}).check()


def test_the_phases_of_a_transfer():
    config = transfer.Config(model="all_cnn_c", epochs=35, head_epochs=7).resolved()
    head, whole = config.phase(1), config.phase(2)
    assert (head.learning_rate, head.milestones, head.shift) == (0.05, (4, 5, 6), 0)
    assert (whole.learning_rate, whole.milestones, whole.shift) == (0.05, (20, 25, 30), 5)
    finer = transfer.Config(whole_learning_rate=0.01, head_learning_rate=0.1).resolved()
    assert [finer.phase(number).learning_rate for number in (1, 2)] == [0.1, 0.01]
    scratch = config.on_labels("shapes:near", config.scratch_epochs)
    assert (scratch.epochs, scratch.training) == (350, paper_a.TRAINING)
    other = transfer.Config(model="all_cnn_c", epochs=10, head_epochs=20, milestones=(5,)).resolved()
    assert other.phase(1).milestones == (10,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "cifar11"}, "unknown source 'cifar11'. Did you mean 'cifar10'"),
        ({"source": "gone.keras"}, "there is no file 'gone.keras'"),
        ({"source": "old.h5"}, "Save the model as .keras"),
        ({"source": "npz:gone.npz"}, "there is no file 'gone.npz'"),
        ({"target": ("shapes:nearr",)}, "unknown data set 'shapes:nearr'. Did you mean 'shapes:near'"),
        ({"target": ()}, "--target needs at least one data set"),
        ({"model": "all_cnn_d"}, "unknown network 'all_cnn_d'. Did you mean 'all_cnn_c'"),
        ({"head_epochs": 0}, "--head-epochs is 0"),
        ({"whole_learning_rate": 0}, "--whole-learning-rate is 0"),
        ({"head_shift": -1}, "--head-shift is -1"),
    ],
)
def test_what_a_transfer_refuses(settings, message):
    with pytest.raises(WrongValue, match=message.replace("?", "\\?")):
        transfer.Config(**settings).check()
