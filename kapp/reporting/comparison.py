"""Two models on the same images: do they agree, is one better, could it be luck? Pure NumPy."""

import math
from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    """What two models' answers to the same `images` say of their difference."""

    images: int
    agreement: float  # the share of images to which both give the same class
    only_first: int  # images that the first alone names correctly
    only_second: int
    difference: float  # accuracy of the first less that of the second, a fraction
    interval: tuple[float, float]  # 95%, of the difference
    p_value: float  # McNemar's


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Comparison:
    """Compare the classes (n,) that two models name with each other and with the labels (n,)."""
    right, right_too = first == labels, second == labels
    only_first, only_second = int(np.sum(right & ~right_too)), int(np.sum(~right & right_too))
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
    """How likely two equally good models would differ at least as much: the two-sided p-value of McNemar's
    test, exact: of `only_first` + `only_second` fair coins. Images on which both are right or both wrong
    say nothing.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages"; its chi-square is an approximation of this, which integers of any size make unnecessary.
    """
    coins, fewer = only_first + only_second, min(only_first, only_second)
    ways, tail = 1, 0  # C(coins, k), and the sum of them up to `fewer`
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (coins - k) // (k + 1)
    # Both tails; they overlap where the counts are equal.
    return min(1.0, _ratio(2 * tail, coins))


def bootstrap_difference(
    only_first: int,
    only_second: int,
    images: int,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Where the difference of two accuracies lies: the percentile bootstrap over the images, in pairs.

    An image drawn anew counts +1 (the first alone is right), -1 (the second alone) or 0, so that a draw of
    all images is one draw of three counts.
    Source: Efron, Tibshirani 1993, "An introduction to the bootstrap", chapter 13.

    Returns:
        (low, high), fractions between -1 and 1.
    """
    shares = np.array([only_first, only_second, images - only_first - only_second]) / images
    counts = np.random.default_rng(seed).multinomial(images, shares, size=draws)
    differences = (counts[:, 0] - counts[:, 1]) / images
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _ratio(count: int, coins: int) -> float:
    """count / 2**coins, of integers too large for floats."""
    shift = max(0, count.bit_length() - 64)
    return math.ldexp(float(count >> shift), shift - coins)
