"""What may be concluded from the difference of two models, in sentences."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kapp.metrics import significance
from kapp.metrics.significance import SeedComparison
from kapp.records import Comparison
from kapp.reporting.tables import percent, points
from kapp.run_folder import Run

NO_TEST = (
    "No paired test is possible: one of the two runs has no predictions.npz, or their test images differ."
)
COLUMNS_NOTE = (
    "Runs with one common seed are compared image by image: the interval is a bootstrap over the test "
    "images, paired by image, and the test is McNemar's exact test. Both cover the sampling noise of the "
    "images alone. Runs with several common seeds are compared by the paired t-test over the seeds, which "
    "covers the noise of training, but not the choice of the test images, which all seeds share; where the "
    "difference is the same for all seeds, they are compared on the images of the first. Of several "
    'comparisons, "p, Holm" is corrected for their number. The last column is the smallest difference that '
    f"would be significant at the {significance.ALPHA:.0%} level with these images or seeds; a true "
    "difference of this size is found about every second time."
)
ONE_SEED = "The test covers the sampling noise of the images, not the spread between seeds."


def compare_runs(run: Run, baseline: Run) -> Comparison | None:
    """Returns the paired comparison of two finished runs on their test images.

    Returns:
        None where a run has no `predictions.npz`, or the test images of the two differ.
    """
    first, second = run.predictions(), baseline.predictions()
    if first is None or second is None or run.config.data_sha256 != baseline.config.data_sha256:
        return None
    if not np.array_equal(first.test_samples, second.test_samples):
        return None
    return significance.compare(first.test_classes, second.test_classes, first.test_labels)


def compare_common_seeds(
    runs: Mapping[int, Run], baseline: Mapping[int, Run]
) -> tuple[Comparison | SeedComparison | None, float]:
    """Returns the paired comparison of two experiments, and the smallest significant difference.

    With one common seed it is over the test images, with several over the seeds. Where the accuracies differ
    equally for all seeds, the t-test would divide by 0: it is over the test images of the first seed.

    Args:
        runs, baseline: finished runs by seed, with at least one common seed.

    Returns:
        The comparison, None where `compare_runs` has none; and a fraction, infinity where there is none.
    """
    seeds = [seed for seed in runs if seed in baseline]
    if len(seeds) > 1:
        accuracies = [[each[seed].result.test_accuracy for seed in seeds] for each in (runs, baseline)]
        over_seeds = significance.compare_seeds(*accuracies)
        low, high = over_seeds.interval
        if high > low:
            return over_seeds, (high - low) / 2
    images = compare_runs(runs[seeds[0]], baseline[seeds[0]])
    return images, smallest_significant(images) if images else math.inf


def columns(compared: Sequence[tuple[Comparison | SeedComparison, float]]) -> list[dict[str, str | int]]:
    """Returns the columns of a table that say how certain its differences are, for each row.

    Args:
        compared: all rows of the table, as from `compare_common_seeds`.
    """
    adjusted = significance.holm([comparison.p_value for comparison, _ in compared])
    return [
        {
            "seeds": count_seeds(comparison),
            "p": f"{comparison.p_value:.2g}",
            **({"p, Holm": f"{p_value:.2g}"} if len(compared) > 1 else {}),
            "smallest significant": format_smallest(smallest),
        }
        for (comparison, smallest), p_value in zip(compared, adjusted)
    ]


def count_seeds(comparison: Comparison | SeedComparison) -> int:
    """Returns over how many seeds `comparison` is; a comparison over images is of one."""
    return comparison.seeds if isinstance(comparison, SeedComparison) else 1


def describe(comparison: Comparison, first: str, second: str) -> str:
    """Returns the difference of two models on the same images, its test and its limits, in sentences.

    Args:
        comparison: of `first` with `second`.
        first: the first model's name.
        second: the second model's name.
    """
    p_value = comparison.p_value
    return (
        f"{first} compared with {second} on the same images: "
        f"{points(comparison.difference, *comparison.interval)} of accuracy (paired 95% interval), "
        f"p = {p_value:.2g} by McNemar's exact test: {verdict(p_value)}. "
        f"Both predict the same class for {percent(comparison.agreement)} of the images. "
        f"{_smallest(comparison)}"
    )


def verdict(p_value: float) -> str:
    """Returns whether a difference with this p-value is significant, in words."""
    is_significant = p_value < significance.ALPHA
    return f"{'' if is_significant else 'not '}significant at the {significance.ALPHA:.0%} level"


def smallest_significant(comparison: Comparison) -> float:
    """Returns the smallest difference that would be significant with these images, a fraction."""
    discordant = comparison.only_first + comparison.only_second
    return significance.smallest_significant_difference(discordant, comparison.images)


def format_smallest(smallest: float) -> str:
    """Returns the smallest significant difference for a table."""
    return "none" if smallest == math.inf else f"{100 * smallest:.1f} points"


def _smallest(comparison: Comparison) -> str:
    smallest = smallest_significant(comparison)
    images = f"{comparison.only_first + comparison.only_second:,} of {comparison.images:,} images"
    if smallest == math.inf:
        return f"Exactly one of the two is correct for {images}, too few for any significant difference."
    return (
        f"Exactly one of the two is correct for {images}; with as many, differences are significant from "
        f"{100 * smallest:.1f} points on."
    )
