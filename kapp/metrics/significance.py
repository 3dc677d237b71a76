"""Is one model better than another, or is the difference noise? Paired tests over images and over seeds.

SciPy is imported where it is used: `scipy.stats` takes most of a second to import.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kapp.records import Comparison

ALPHA = 0.05  # significance level of the statements in reports


class SeedComparison(NamedTuple):
    """Two kinds of training, compared over pairs of runs that share their seed."""

    seeds: int
    difference: float  # mean accuracy of the first minus that of the second
    interval: tuple[float, float]  # of the difference, 95%
    p_value: float  # of the paired t-test


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Comparison:
    """Returns the paired comparison of two models on the same images.

    Args:
        first: (n,), the classes that the first model predicts.
        second: (n,), the classes that the second model predicts.
        labels: (n,), the true classes.

    Example:

    >>> labels = np.array([0, 1, 2, 0])
    >>> compare(labels, np.array([0, 1, 1, 1]), labels).difference
    0.5
    """
    correct_first, correct_second = first == labels, second == labels
    only_first = int(np.sum(correct_first & ~correct_second))
    only_second = int(np.sum(~correct_first & correct_second))
    return Comparison(
        images=len(labels),
        agreement=float(np.mean(first == second)),
        only_first=only_first,
        only_second=only_second,
        difference=(only_first - only_second) / len(labels),
        interval=bootstrap_difference(only_first, only_second, len(labels)),
        p_value=mcnemar(only_first, only_second),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    It is the probability that two equally accurate models differ at least this much. Images that both models
    classify correctly, or both wrongly, don't count.

    Reference: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages".

    Args:
        only_first: the number of images that only the first model classifies correctly.
        only_second: the number of images that only the second model classifies correctly.

    Example:

    >>> mcnemar(6, 0)
    0.03125
    """
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def bootstrap_difference(
    only_first: int,
    only_second: int,
    images: int,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the difference of two accuracies, paired by image.

    A resampled image counts +1 (only the first model is correct), -1 (only the second) or 0. The counts of a
    resample are therefore multinomial, and one draw of three counts replaces a draw of all images. The
    distribution is that of `scipy.stats.bootstrap(paired=True, method="percentile")`, which takes more than a
    second for 10,000 draws of 10,000 images; this takes milliseconds.

    Reference: Efron, Tibshirani 1993, "An introduction to the bootstrap", chapter 13.

    Args:
        only_first: the number of images that only the first model classifies correctly.
        only_second: the number of images that only the second model classifies correctly.
        images: the number of all images.
        confidence: the interval's confidence level.
        draws: the number of resamples.
        seed: of the resamples.

    Returns:
        (low, high), fractions from -1 to 1.
    """
    fractions = np.array([only_first, only_second, images - only_first - only_second]) / images
    counts = np.random.default_rng(seed).multinomial(images, fractions, size=draws)
    differences = (counts[:, 0] - counts[:, 1]) / images
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def smallest_significant_difference(discordant: int, images: int, alpha: float = ALPHA) -> float:
    """Returns the smallest difference of two accuracies that McNemar's exact test calls significant.

    A true difference of this size is found about every second time.

    Args:
        discordant: the number of images that exactly one of the two models classifies correctly.
        images: the number of all images.
        alpha: the significance level: differences with p < `alpha` are significant.

    Returns:
        A fraction; infinity where even `discordant` images on one side would not be significant.

    Example:

    >>> smallest_significant_difference(100, 10_000)  # 61 images to 39
    0.0022
    >>> smallest_significant_difference(5, 10_000)
    inf
    """
    from scipy.stats import binom

    # The greatest smaller count whose p-value, twice its tail, is below alpha.
    fewer = int(binom.ppf(alpha / 2, discordant, 0.5)) - 1 if discordant else -1
    return (discordant - 2 * fewer) / images if fewer >= 0 else math.inf


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number: with these, the probability that one or more of the
    comparisons without a difference is called significant is at most the significance level.

    Reference: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: of all comparisons that are made together.

    Returns:
        In the same order.

    Example:

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p_values)
    scaled = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted.tolist()


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Returns Student's t interval of the mean of runs that differ in their seed.

    Args:
        values: accuracies, one per seed; at least two.
        confidence: the interval's confidence level.

    Example:

    >>> [round(end, 3) for end in mean_interval([0.61, 0.62, 0.63])]
    [0.595, 0.645]
    """
    from scipy.stats import t

    mean, error = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    reach = t.ppf((1 + confidence) / 2, len(values) - 1) * error
    return float(mean - reach), float(mean + reach)


def compare_seeds(first: Sequence[float], second: Sequence[float]) -> SeedComparison:
    """Returns the paired t-test of two kinds of training, each run with the same seeds.

    Equal differences have no spread, which the test divides by. The interval then has no width, and p, 0 or
    1, means nothing.

    Args:
        first: test accuracies of the first, one per seed.
        second: test accuracies of the second, in the same order.

    Raises:
        ValueError: fewer than two seeds.

    Example:

    >>> round(compare_seeds([0.62, 0.63, 0.64], [0.61, 0.61, 0.61]).p_value, 3)
    0.074
    """
    from scipy.stats import ttest_rel

    differences = np.subtract(first, second)
    seeds, mean = len(differences), float(np.mean(differences))
    if seeds < 2:
        raise ValueError(f"compare_seeds needs at least two seeds, received {seeds}.")
    if np.ptp(differences) < 1e-12:
        return SeedComparison(seeds, mean, (mean, mean), 0.0 if abs(mean) > 1e-12 else 1.0)
    test = ttest_rel(first, second)
    low, high = test.confidence_interval()
    return SeedComparison(seeds, mean, (float(low), float(high)), float(test.pvalue))
