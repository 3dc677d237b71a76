import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapp import models
from kapp.errors import ConfigError
from kapp.models import mlp_budget
from kapp.models.notation import parse


def test_parameters_are_those_of_keras():
    assert mlp_budget.parameters([2048, 2048], 32 * 32 * 3, 10) == 10_522_634  # linear_3
    built = models.build("30fc-7fc-19fc-4fc", classes=4, image_shape=(8, 6, 3))
    assert mlp_budget.parameters([30, 7, 19], 8 * 6 * 3, 4) == built.count_params()


@given(
    st.lists(st.floats(0.25, 4), min_size=1, max_size=5),
    st.integers(100_000, 20_000_000),
    st.integers(2, 100),
)
def test_each_network_is_within_one_percent_of_the_budget(relative, parameters, classes):
    text = mlp_budget.mlp_for_budget(relative, parameters, 3072, classes)
    *units, output = (layer.units for layer in parse(text))
    assert output == classes
    assert len(units) == len(relative)
    count = mlp_budget.parameters(units, 3072, classes)
    assert abs(count - parameters) <= max(
        mlp_budget.TOLERANCE * parameters, 1600
    )  # half of a unit, if there are few


def test_widths_keep_their_proportions():
    *units, _ = (layer.units for layer in parse(mlp_budget.mlp_for_budget([1, 2, 0.5], 10_500_000, 3072, 10)))
    assert units[1] / units[0] == pytest.approx(2, abs=0.01)
    assert units[2] / units[0] == pytest.approx(0.5, abs=0.01)


def test_the_widths_of_a_network_are_found_from_its_parameters():
    assert mlp_budget.mlp_for_budget([1, 1], 10_522_634, 3072, 10) == "2048fc-2048fc-10fc"


@pytest.mark.parametrize("relative", [[], [1, 0], [1, -2]])
def test_widths_must_be_above_zero(relative):
    with pytest.raises(ConfigError, match="each must be above 0"):
        mlp_budget.mlp_for_budget(relative, 10_000, 192, 3)


def test_a_budget_below_one_unit_is_refused():
    with pytest.raises(
        ConfigError, match="a budget of 100 parameters is too small: 2 hidden layers of one unit have"
    ):
        mlp_budget.mlp_for_budget([1, 1], 100, 3072, 10)
