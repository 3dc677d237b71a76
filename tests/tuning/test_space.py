import pytest

from kapp.errors import WrongValue
from kapp.recipes import distill, train
from kapp.runs import Run
from kapp.tuning import space, trials


def test_ranges_as_documented_and_as_given():
    rate, decay = space.ranges(["learning_rate", "weight_decay"], ["learning_rate=1e-3:0.5"])
    assert (rate.low, rate.high, rate.log) == (1e-3, 0.5, True)
    assert decay == space.RANGES["weight_decay"]
    assert space.ranges(["learning_rate"], optimizer="sgd")[0].high == space.SGD_RATE[1]


def test_widths_stand_for_each_layer_but_the_first():
    searched = space.ranges(["layers", "widths"], ["layers=2:4", "widths=0.5:2"])
    assert [(r.name, r.low, r.layers) for r in searched] == [
        ("layers", 2, 0),
        ("width_2", 0.5, 2),
        ("width_3", 0.5, 3),
        ("width_4", 0.5, 4),
    ]
    assert [r.name for r in space.ranges(["widths"], hidden=3)] == ["width_2", "width_3"]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["learning_rte"], (), "unknown --search 'learning_rte'. Did you mean 'learning_rate'?"),
        (["dropout"], ["drpout=0:0.5"], "unknown name in --range 'drpout'. Did you mean 'dropout'?"),
        (["dropout"], ["momentum=0.5:0.9"], "momentum isn't searched. Searched: dropout"),
        (["dropout"], ["dropout=0.5"], "it must be like dropout=LOW:HIGH, such as dropout=0:0.6"),
        (["dropout"], ["dropout=0:1"], "it must rise, from 0 to 0.99"),
        (["dropout"], ["dropout=0.5:0.2"], "it must rise"),
        (["temperature"], ["temperature=1:inf"], "it must rise, from 0."),
        (["temperature"], ["temperature=nan:3"], "it must rise"),
        (["weight_decay"], ["weight_decay=0:1"], "logarithmic scale and must be above 0"),
        (["layers"], ["layers=1:2.5"], "layers is a whole number"),
    ],
)
def test_what_is_refused(names, given, message):
    with pytest.raises(WrongValue) as error:
        space.ranges(names, given)
    assert message in str(error.value)


@pytest.mark.parametrize(("text", "count"), [("10.5M", 10_500_000), ("500k", 500_000), ("1234", 1234)])
def test_a_budget(text, count):
    assert space.amount(text) == count


@pytest.mark.parametrize("text", ["", "M", "-3k", "ten", "nan", "inf", "0"])
def test_no_budget(text):
    with pytest.raises(WrongValue, match="--budget is"):
        space.amount(text)


def test_values_become_a_config_that_can_be_typed():
    base = distill.Config(student="linear_3", width=0.5).resolved()
    values = {"learning_rate": 0.00123456789, "dropout": 0.256789, "label_weight": 0.5}
    chosen = trials.settled(base, "student", values, 0, 3072, 10)
    assert (chosen.learning_rate, chosen.label_weight) == (0.001235, 0.5)
    assert (chosen.student, chosen.width) == ("2048fc-d0.2568-2048fc-d0.2568-10fc", 0.5)
    assert chosen.momentum == base.momentum


def test_layers_and_widths_share_the_students_parameters():
    base = train.Config(model="linear_3", width=0.5).resolved()
    own = trials.parameter_budget(None, base, "linear_3", 3072, 10)
    chosen = trials.settled(base, "model", {"layers": 3, "width_2": 2.0, "width_3": 0.5}, own, 3072, 10)
    again = trials.parameter_budget(None, chosen, chosen.model, 3072, 10)
    assert chosen.width == 1
    assert len(trials.hidden_units(chosen.model)) == 3
    assert again == pytest.approx(own, rel=0.01)


def test_the_defaults_are_the_recipes_own_or_the_nearest():
    base = train.Config(model="linear_3").resolved()
    searched = space.ranges(["learning_rate", "weight_decay", "dropout", "layers", "widths"])
    values = trials.default_values(searched, base, "linear_3")
    assert values == {
        "learning_rate": 1e-3,
        "weight_decay": 1e-6,
        "dropout": 0.0,
        "layers": 2,
        "width_2": 1.0,
    }


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("temperature", "linear_3", "--objective is prob_mse, and only kl has a temperature"),
        ("dropout", "teacher_1", "teacher_1 has dropout already"),
        ("dropout", "deep_resnet", "deep_resnet can't be written with dropout"),
        ("widths", "conv_1", "conv_1 isn't a network of fully connected layers alone"),
        ("widths", "64fc-10fc", "64fc-10fc has fewer than two hidden layers"),
        ("layers", "64fc-d0.5-10fc", "has dropout, which other layers would lose: give it without"),
        ("layers", "64fc-10fc", None),
        ("dropout", "linear_3", None),
    ],
)
def test_what_a_network_does_not_have(name, network, message):
    why = trials.why_not(name, distill.Config(student=network).resolved(), network)
    assert (why is None) if message is None else (message in why)


def test_a_validation_that_comes_after_the_last_epoch_counts(tmp_path):
    """As with --validate-every, of which the epochs are no multiple."""
    run = Run.start(tmp_path / "run", {"recipe": "train"})
    run.write_epochs(
        [{"epoch": 0.75 * i, "val_accuracy": i / 10, "seconds": 1.0} for i in range(1, 6)]  # to 3.75
    )
    base = train.Config(model="64fc-10fc").resolved()
    outcome = trials.validated(run, 2, base, "64fc-10fc", 3072, 10)
    assert (outcome.score, outcome.best_epoch, outcome.seconds) == (0.3, 2.25, 3.0)
    assert trials.validated(run, 9, base, "64fc-10fc", 3072, 10).score == 0.5
