"""Paired tests compared with sums, draws and formulas written independently."""

import math
import statistics
import subprocess
import sys
from math import comb

import numpy as np
import pytest
from scipy.stats import bootstrap

from kapp.metrics.significance import (
    bootstrap_difference,
    compare,
    compare_seeds,
    holm,
    mcnemar,
    smallest_significant_difference,
)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 3), (2, 9), (9, 2), (0, 12), (59, 41)])
def test_mcnemar_is_the_fraction_of_coin_tosses_at_least_as_uneven(counts):
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


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_where_that_is_valid():
    b, c, n = 300, 200, 10_000
    low, high = bootstrap_difference(b, c, n)
    difference = (b - c) / n
    deviation = math.sqrt((b + c) / n - difference**2) / math.sqrt(n)
    assert (low, high) == pytest.approx(
        (difference - 1.96 * deviation, difference + 1.96 * deviation), abs=0.1 * deviation + 1 / n
    )
    assert bootstrap_difference(b, c, n) == (low, high)  # seeded
    assert bootstrap_difference(0, 0, 50) == (0, 0)


def test_the_bootstrap_draws_pairs_as_scipys_does():
    random = np.random.default_rng(1)
    first, second = random.random(500) < 0.7, random.random(500) < 0.6
    expected = bootstrap(
        (first.astype(float), second.astype(float)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=0,
    ).confidence_interval
    found = bootstrap_difference(int((first & ~second).sum()), int((~first & second).sum()), 500)
    assert found == pytest.approx(tuple(expected), abs=0.004)  # two images of 500


def test_compare_counts_the_images_that_one_model_alone_classifies_correctly():
    labels = np.array([0, 1, 2, 0, 1, 2])
    first = np.array([0, 1, 2, 0, 2, 0])
    second = np.array([0, 1, 0, 1, 2, 2])
    found = compare(first, second, labels)
    assert (found.images, found.only_first, found.only_second) == (6, 2, 1)
    assert found.agreement == 3 / 6
    assert found.difference == pytest.approx(4 / 6 - 3 / 6)
    assert found.p_value == 1.0
    assert found.interval[0] < found.difference < found.interval[1]
    same = compare(first, first, labels)
    assert (same.agreement, same.only_first, same.only_second) == (1.0, 0, 0)
    assert (same.difference, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("discordant", [6, 7, 30, 401, 1000])
def test_the_smallest_significant_difference_is_just_significant(discordant):
    difference = smallest_significant_difference(discordant, images=2000)
    fewer = round((discordant - 2000 * difference) / 2)
    assert mcnemar(fewer, discordant - fewer) < 0.05 <= mcnemar(fewer + 1, discordant - fewer - 1)


def test_too_few_discordant_images_show_nothing():
    assert all(smallest_significant_difference(count, 2000) == math.inf for count in range(6))
    assert smallest_significant_difference(6, 2000) == 6 / 2000
    assert smallest_significant_difference(6, 2000, alpha=0.01) == math.inf


def test_compare_seeds_is_the_paired_t_test():
    first, second = [0.631, 0.627, 0.640], [0.619, 0.621, 0.618]
    found = compare_seeds(first, second)
    differences = [a - b for a, b in zip(first, second)]
    error = statistics.stdev(differences) / math.sqrt(3)
    mean = statistics.mean(differences)
    assert (found.seeds, found.difference) == (3, pytest.approx(mean))
    # 4.302653: the 97.5% quantile of Student's t with two degrees of freedom, from its tables.
    assert found.interval == pytest.approx((mean - 4.302653 * error, mean + 4.302653 * error), abs=1e-7)
    t = mean / error
    assert found.p_value == pytest.approx(1 - t / math.sqrt(2 + t**2))  # its closed form for two degrees


def test_compare_seeds_of_equal_differences_and_of_one_seed():
    assert compare_seeds([0.5, 0.75], [0.25, 0.5]) == (2, 0.25, (0.25, 0.25), 0.0)
    assert compare_seeds([0.5, 0.6], [0.5, 0.6]).p_value == 1.0
    with pytest.raises(ValueError, match="at least two seeds, received 1"):
        compare_seeds([0.5], [0.6])


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_holm_rejects_what_the_procedure_rejects(alpha):
    """Step by step, as Holm 1979 describes it."""
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 20):
        p_values = [*random.beta(0.3, 3, count), 0.0, 1.0]
        rejected = set()
        for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[index] > alpha / (len(p_values) - place):
                break
            rejected |= {index}
        assert {i for i, each in enumerate(holm(p_values)) if each <= alpha} == rejected
    assert holm([]) == []


def test_importing_the_metrics_imports_neither_scipy_nor_keras():
    command = (
        "import sys; from kapp.metrics import classification, significance; "
        "print({'scipy', 'keras', 'tensorflow'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"
