"""Linear networks of a given number of parameters: how many hidden layers, how wide each by the others."""

from collections.abc import Sequence
from itertools import count, pairwise

from kapp.errors import WrongValue
from kapp.models.notation import Dense, Dropout, Step

NEAR = 0.01  # of the budget


def is_linear(steps: Sequence[Step]) -> bool:
    """Whether a network is of fully connected layers alone, paper D's "all linear"."""
    return all(isinstance(step, Dense | Dropout) for step in steps)


def parameters(units: Sequence[int], inputs: int, classes: int) -> int:
    """Parameters of a linear network as `keras.Model.count_params` has them, its normalisation's included.

    Args:
        units: of each hidden layer.
        inputs: numbers in an image: height x width x channels.
    """
    kernels = sum(before * after for before, after in pairwise([inputs, *units, classes]))
    return (
        kernels + 4 * sum(units) + classes
    )  # a normalised layer has no bias, but scale, shift and two moments


def linear(relative: Sequence[float], budget: int, inputs: int, classes: int) -> str:
    """The notation of the linear network whose hidden layers are as wide by each other as `relative` says and
    whose parameters come nearest to `budget`.

    Args:
        relative: one width a hidden layer, above 0, in any unit.
        budget: parameters.
        inputs: numbers in an image: height x width x channels.

    Raises:
        WrongValue: no width above 0, or even layers of one unit are more than 1% above the budget.
    """
    if not relative or not all(width > 0 for width in relative):
        raise WrongValue(f"relative widths are {list(relative)}: each must be above 0.")

    def units(scale: float) -> list[int]:
        return [max(1, round(scale * width)) for width in relative]

    def error(candidate: Sequence[int]) -> int:
        return abs(parameters(candidate, inputs, classes) - budget)

    low, high = 0.0, next(2.0**i for i in count() if parameters(units(2.0**i), inputs, classes) >= budget)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if parameters(units(middle), inputs, classes) >= budget else (middle, high)
    best = min(units(low), units(high), key=error)
    while True:  # what rounding left over, unit by unit
        near = [[*best[:i], n, *best[i + 1 :]] for i in range(len(best)) for n in (best[i] - 1, best[i] + 1)]
        better = min((each for each in near if min(each) > 0), key=error)
        if error(better) >= error(best):
            break
        best = better
    if parameters(best, inputs, classes) > (1 + NEAR) * budget and max(best) == 1:
        smallest = parameters(best, inputs, classes)
        raise WrongValue(
            f"a budget of {budget:,} parameters is too small: {len(best)} hidden layers of one unit "
            f"have {smallest:,}."
        )
    return "-".join([*(f"{n}fc" for n in best), f"{classes}fc"])
