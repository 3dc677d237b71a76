"""Two models on the same images, against sums and draws written independently."""

import math
from math import comb

import numpy as np
import pytest

from kapp.reporting.comparison import bootstrap_difference, compare, mcnemar


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 3), (2, 9), (9, 2), (0, 12), (59, 41)])
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_uneven(counts):
    n = sum(counts)
    uneven = abs(counts[0] - counts[1])
    tosses = sum(comb(n, heads) for heads in range(n + 1) if abs(2 * heads - n) >= uneven)
    assert mcnemar(*counts) == pytest.approx(tosses / 2**n, rel=1e-12)


def test_mcnemar_by_hand():
    assert mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 256)


def test_mcnemar_of_many_images_agrees_with_its_chi_square():
    """With Edwards's correction, (|b - c| - 1)^2 / (b + c), of one degree of freedom."""
    for b, c in ((520, 480), (849, 1010), (5000, 5200)):
        chi_square = (abs(b - c) - 1) ** 2 / (b + c)
        assert mcnemar(b, c) == pytest.approx(math.erfc(math.sqrt(chi_square / 2)), rel=0.02)
    assert 0 < mcnemar(849, 1740) < 1e-60
    assert mcnemar(0, 5000) == 0  # less than any float


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_where_that_holds():
    b, c, n = 300, 200, 10_000
    low, high = bootstrap_difference(b, c, n)
    difference = (b - c) / n
    deviation = math.sqrt((b + c) / n - difference**2) / math.sqrt(n)
    assert (low, high) == pytest.approx(
        (difference - 1.96 * deviation, difference + 1.96 * deviation), abs=0.1 * deviation + 1 / n
    )
    assert bootstrap_difference(b, c, n) == (low, high)  # seeded
    assert bootstrap_difference(0, 0, 50) == (0, 0)


def test_the_bootstrap_draws_pairs():
    """Against images drawn one by one, with both models' answers to them."""
    random = np.random.default_rng(1)
    first, second = random.random(200) < 0.7, random.random(200) < 0.6
    draws = random.integers(0, 200, (4000, 200))
    differences = first[draws].mean(axis=1) - second[draws].mean(axis=1)
    expected = np.quantile(differences, [0.025, 0.975])
    found = bootstrap_difference(int((first & ~second).sum()), int((~first & second).sum()), 200)
    assert found == pytest.approx(expected, abs=0.012)  # some steps of 1/200


def test_compare_counts_the_images_that_tell_the_two_apart():
    labels = np.array([0, 1, 2, 0, 1, 2])
    first = np.array([0, 1, 2, 0, 2, 0])
    second = np.array([0, 1, 0, 1, 2, 2])
    found = compare(first, second, labels)
    assert (found.images, found.only_first, found.only_second) == (6, 2, 1)
    assert found.agreement == 3 / 6
    assert found.difference == pytest.approx(4 / 6 - 3 / 6)
    assert found.p_value == 1.0
    assert found.interval[0] < found.difference < found.interval[1]
    assert compare(first, first, labels)[1:] == (1.0, 0, 0, 0.0, (0.0, 0.0), 1.0)
