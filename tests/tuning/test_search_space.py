"""Which ranges are searched, and what is refused."""

import pytest

from kapp.errors import ConfigError
from kapp.recipes.settings import AugmentationFlags, HParamFlags
from kapp.tuning import search_space


def test_usual_ranges_and_those_of_the_user():
    rate, decay = search_space.ranges(["learning_rate", "weight_decay"], ["learning_rate=1e-3:0.5"])
    assert (rate.low, rate.high, rate.log) == (1e-3, 0.5, True)
    assert decay == search_space.RANGES["weight_decay"]
    assert search_space.ranges(["learning_rate"], optimizer="sgd") == (search_space.SGD_LEARNING_RATE,)


def test_views_have_ranges_that_their_flags_accept():
    names = "crop_scale hue saturation brightness random_erasing mixup cutmix".split()
    searched = {each.name: each for each in search_space.ranges(names, ["cutmix=0.5:2", "hue=0:0.5"])}
    assert (searched["cutmix"].low, searched["cutmix"].high) == (0.5, 2)
    for bounds in (
        {name: searched[name].low for name in names},
        {name: searched[name].high for name in names},
    ):
        AugmentationFlags(**bounds).check()
    with pytest.raises(ConfigError, match="HIGH at most 0.5"):
        search_space.ranges(["hue"], ["hue=0:0.6"])


def test_widths_are_those_of_each_layer_but_the_first():
    searched = search_space.ranges(["layers", "widths"], ["layers=2:4", "widths=0.5:2"])
    assert [(r.name, r.low, r.min_layers) for r in searched] == [
        ("layers", 2, 0),
        ("width_2", 0.5, 2),
        ("width_3", 0.5, 3),
        ("width_4", 0.5, 4),
    ]
    assert [r.name for r in search_space.ranges(["widths"], hidden_layers=3)] == ["width_2", "width_3"]


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        (["learning_rte"], (), "unknown --search 'learning_rte'. Did you mean 'learning_rate'?"),
        (["dropout"], ["drpout=0:0.5"], "unknown name in --search-range 'drpout'. Did you mean 'dropout'?"),
        (["dropout"], ["momentum=0.5:0.9"], "momentum isn't searched. Searched: dropout"),
        (["dropout"], ["dropout=0.5"], "it must be like dropout=LOW:HIGH, such as dropout=0:0.6"),
        (
            ["dropout"],
            ["dropout=0:1"],
            "LOW must be below HIGH, LOW at least 0 and HIGH at most 0.99, such as",
        ),
        (["dropout"], ["dropout=0.5:0.2"], "LOW must be below HIGH"),
        (["temperature"], ["temperature=1:inf"], "LOW must be below HIGH, LOW at least 0, such as"),
        (["temperature"], ["temperature=nan:3"], "LOW must be below HIGH"),
        (["weight_decay"], ["weight_decay=0:1"], "logarithmic scale and must be above 0"),
        (["layers"], ["layers=1:2.5"], "layers is a whole number"),
    ],
)
def test_what_is_refused(names, overrides, message):
    with pytest.raises(ConfigError) as error:
        search_space.ranges(names, overrides)
    assert message in str(error.value)


@pytest.mark.parametrize(("text", "count"), [("10.5M", 10_500_000), ("500k", 500_000), ("1234", 1234)])
def test_counts(text, count):
    assert search_space.parse_count(text) == count


@pytest.mark.parametrize("text", ["", "M", "-3k", "ten", "nan", "inf", "0"])
def test_what_is_no_count(text):
    with pytest.raises(ConfigError, match="--budget is"):
        search_space.parse_count(text)


def test_label_smoothing_and_averaging_have_ranges_that_their_flags_accept():
    smoothing, ema = search_space.ranges(["label_smoothing", "ema"], ["ema=0:0.9999"])
    for value in (smoothing.low, smoothing.high):
        HParamFlags(label_smoothing=value).check()
    for value in (ema.low, ema.high):
        HParamFlags(ema=value).check()
    with pytest.raises(ConfigError, match="HIGH at most 0.9999"):
        search_space.ranges(["ema"], ["ema=0.9:1"])
