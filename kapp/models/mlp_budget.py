"""Fully connected networks with a given number of parameters."""

from collections.abc import Sequence
from itertools import count, pairwise

from kapp.errors import ConfigError
from kapp.models.notation import Dense, Dropout, LayerSpec

TOLERANCE = 0.01  # fraction of the budget


def is_linear(specs: Sequence[LayerSpec]) -> bool:
    """Returns whether all layers are fully connected ("all linear" in Ratusznik et al.)."""
    return all(isinstance(spec, Dense | Dropout) for spec in specs)


def parameters(units: Sequence[int], inputs: int, classes: int) -> int:
    """Returns the parameters of a linear network, those of batch normalization included.

    Args:
        units: of each hidden layer.
        inputs: numbers in an image, height x width x channels.
        classes: number of classes.

    Returns:
        The same number as `keras.Model.count_params`.
    """
    kernels = sum(before * after for before, after in pairwise([inputs, *units, classes]))
    # Hidden layers have no bias; their batch normalization has scale, shift, mean and variance.
    return kernels + 4 * sum(units) + classes


def mlp_for_budget(relative: Sequence[float], budget: int, inputs: int, classes: int) -> str:
    """Returns the notation of a linear network with about `budget` parameters.

    Args:
        relative: widths of the hidden layers relative to each other, above 0.
        budget: parameters.
        inputs: numbers in an image, height x width x channels.
        classes: number of classes.

    Raises:
        ConfigError: there is no width, a width isn't above 0, or layers of one unit are more than 1% above
            the budget.

    Example:

    >>> mlp_for_budget([1, 1], budget=10_522_634, inputs=32 * 32 * 3, classes=10)
    '2048fc-2048fc-10fc'
    """
    if not relative or not all(width > 0 for width in relative):
        raise ConfigError(f"relative widths are {list(relative)}: each must be above 0.")

    def units(scale: float) -> list[int]:
        return [max(1, round(scale * width)) for width in relative]

    def error(candidate: Sequence[int]) -> int:
        return abs(parameters(candidate, inputs, classes) - budget)

    low, high = 0.0, next(2.0**i for i in count() if parameters(units(2.0**i), inputs, classes) >= budget)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if parameters(units(middle), inputs, classes) >= budget else (middle, high)
    best = min(units(low), units(high), key=error)
    while True:  # unit by unit, to correct the rounding
        near = [[*best[:i], n, *best[i + 1 :]] for i in range(len(best)) for n in (best[i] - 1, best[i] + 1)]
        better = min((each for each in near if min(each) > 0), key=error)
        if error(better) >= error(best):
            break
        best = better
    smallest = parameters(best, inputs, classes)
    if smallest > (1 + TOLERANCE) * budget and max(best) == 1:
        raise ConfigError(
            f"a budget of {budget:,} parameters is too small: {len(best)} hidden layers of one unit "
            f"have {smallest:,}."
        )
    return "-".join([*(f"{n}fc" for n in best), f"{classes}fc"])
