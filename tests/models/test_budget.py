"""Widths under a budget, by counting what Keras builds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapp import models
from kapp.errors import WrongValue
from kapp.models import budget
from kapp.models.notation import parse, with_dropout


def test_parameters_are_those_that_keras_counts():
    assert budget.parameters([2048, 2048], 32 * 32 * 3, 10) == 10_522_634  # linear_3, as the catalogue says
    built = models.build("30fc-7fc-19fc-4fc", classes=4, image_shape=(8, 6, 3))
    assert budget.parameters([30, 7, 19], 8 * 6 * 3, 4) == built.count_params()


@given(
    st.lists(st.floats(0.25, 4), min_size=1, max_size=5),
    st.integers(100_000, 20_000_000),
    st.integers(2, 100),
)
def test_every_shape_has_the_budgets_parameters_within_a_hundredth(relative, parameters, classes):
    text = budget.linear(relative, parameters, 3072, classes)
    *units, last = (step.units for step in parse(text))
    assert last == classes
    assert len(units) == len(relative)
    count = budget.parameters(units, 3072, classes)
    assert abs(count - parameters) <= max(budget.NEAR * parameters, 1600)  # 1600: half a unit of few


def test_widths_keep_their_proportions():
    *units, _ = (step.units for step in parse(budget.linear([1, 2, 0.5], 10_500_000, 3072, 10)))
    assert units[1] / units[0] == pytest.approx(2, abs=0.01)
    assert units[2] / units[0] == pytest.approx(0.5, abs=0.01)


def test_the_students_own_widths_come_back():
    assert budget.linear([1, 1], 10_522_634, 3072, 10) == "2048fc-2048fc-10fc"


@pytest.mark.parametrize("relative", [[], [1, 0], [1, -2]])
def test_widths_that_are_none(relative):
    with pytest.raises(WrongValue, match="each must be above 0"):
        budget.linear(relative, 10_000, 192, 3)


def test_a_budget_below_one_unit_is_refused():
    with pytest.raises(
        WrongValue, match="a budget of 100 parameters is too small: 2 hidden layers of one unit have"
    ):
        budget.linear([1, 1], 100, 3072, 10)


@pytest.mark.parametrize(
    ("plain", "dropped"),
    [
        ("2048fc^2-10fc", "2048fc-d0.25-2048fc-d0.25-10fc"),
        ("64c-mp-640fc-10fc", "64c-mp-640fc-d0.25-10fc"),
        ("64c^2-gap-10fc", "64c^2-gap-d0.25-10fc"),
        ("96c^2-10c1x1-gap", "96c^2-d0.25-10c1x1-gap"),
        ("10fc", "d0.25-10fc"),
    ],
)
def test_dropout_after_each_hidden_layer_or_before_the_last(plain, dropped):
    assert with_dropout(plain, 0.25) == dropped
    assert with_dropout(plain, 0) == with_dropout(plain, 0.00001) == plain


def test_dropout_on_dropout_is_refused():
    with pytest.raises(WrongValue, match="has dropout already"):
        with_dropout("d0.2-16fc-10fc", 0.1)
