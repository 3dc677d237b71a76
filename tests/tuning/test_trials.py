"""Values become settings of a recipe; a run folder becomes a trial's result."""

import pytest

from kapp import cli
from kapp.recipes import distill, train
from kapp.run_folder import Run
from kapp.tuning import search_space, trials
from tests import example_records

IMAGE = (3072, 10)  # numbers in an image, classes


def test_values_are_rounded_and_dropout_becomes_part_of_the_network():
    values = {"learning_rate": 0.00123456789, "dropout": 0.256789, "label_weight": 0.5}
    network, settings = trials.network_and_settings(values, "linear_3", 0, *IMAGE)
    assert network == "2048fc-d0.2568-2048fc-d0.2568-10fc"
    assert settings == {"learning_rate": 0.001235, "label_weight": 0.5}


def test_layers_and_widths_keep_the_number_of_parameters():
    budget = trials.mlp_parameters("linear_3", 0.5, *IMAGE)
    values = {"layers": 3, "width_2": 2.0, "width_3": 0.5}
    network, settings = trials.network_and_settings(values, "linear_3", budget, *IMAGE)
    assert settings == {"width": 1.0}
    assert len(trials.hidden_units(network)) == 3
    assert trials.mlp_parameters(network, 1.0, *IMAGE) == pytest.approx(budget, rel=0.01)


def test_the_default_values_are_the_recipes_own_or_the_nearest():
    settings = cli.flatten(train.Config(model="linear_3").resolved())
    space = search_space.ranges(["learning_rate", "weight_decay", "dropout", "layers", "widths"])
    assert trials.default_values(space, "linear_3", settings) == {
        "learning_rate": 1e-3,
        "weight_decay": 1e-6,  # on a logarithmic scale, for none
        "dropout": 0.0,
        "layers": 2,
        "width_2": 1.0,
    }


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("temperature", "linear_3", "--distillation-loss is prob_mse, which has no temperature"),
        ("dropout", "teacher_1", "teacher_1 has dropout already"),
        ("dropout", "deep_resnet", "deep_resnet has no notation for dropout"),
        ("dropout", "airbench", "airbench has no notation for dropout"),
        ("widths", "conv_1", "conv_1 isn't a network of fully connected layers alone"),
        ("widths", "64fc-10fc", "64fc-10fc has fewer than two hidden layers"),
        ("layers", "64fc-d0.5-10fc", "has dropout, which is lost with other layers"),
        ("layers", "64fc-10fc", None),
        ("dropout", "linear_3", None),
    ],
)
def test_what_cannot_be_searched(name, network, message):
    settings = cli.flatten(distill.Config(student=network).resolved())
    why = trials.why_not_searchable(name, network, settings)
    assert (why is None) if message is None else (message in why)


def test_widths_of_one_hidden_layer_are_searched_with_layers():
    settings = cli.flatten(train.Config(model="64fc-10fc").resolved())
    searched = ["layers", "widths"]
    assert trials.why_not_searchable("widths", "64fc-10fc", settings, searched) is None
    space = search_space.ranges(searched, hidden_layers=1)
    assert trials.default_values(space, "64fc-10fc", settings) == {"layers": 1}


def test_the_score_is_the_best_until_the_last_epoch(tmp_path):
    """With --validate-every, the validation after the last epoch belongs to it."""
    run = Run.create(tmp_path / "run", example_records.CONFIG)
    run.write_metrics(
        [example_records.row(0.75 * i, val_accuracy=i / 10) for i in range(1, 6)]  # to 3.75
    )
    result = trials.read_result(7, run, 2, keep_last=False)
    assert (result.number, result.status) == (7, "finished")
    assert (result.score, result.best_epoch, result.seconds) == (0.3, 2.25, 3.0)
    assert trials.read_result(7, run, 9, keep_last=False).score == 0.5
    run.write_metrics([example_records.row(i, val_accuracy=0.5 / i) for i in (1, 2)])
    result = trials.read_result(7, run, 2, keep_last=True)
    assert (result.score, result.best_epoch) == (0.25, 2)
