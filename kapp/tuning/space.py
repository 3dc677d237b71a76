"""What a sweep searches, and in which ranges: pure data, checked before Keras is imported."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kapp.errors import WrongValue, unknown

MOST_LAYERS = 5  # of a linear network: Urban et al. 2016, table 2, has 1 to 5


@dataclass(frozen=True)
class Range:
    """One value that is searched, from `low` to `high`."""

    name: str
    low: float
    high: float
    log: bool = False  # as likely between 1 and 10 as between 10 and 100
    whole: bool = False
    layers: int = 0  # searched only where the network has at least so many hidden layers

    def nearest(self, value: float) -> float:
        """The value of the range that is nearest to `value`."""
        return min(max(value, self.low), self.high)


# Urban et al. 2016 searched such values by Bayesian optimisation; the ranges are kapp's, wide around what the
# papers train with.
RANGES = {
    "learning_rate": Range("learning_rate", 1e-4, 1e-2, log=True),  # adam and adamw; SGD_RATE for sgd
    "momentum": Range("momentum", 0.5, 0.99),
    "weight_decay": Range("weight_decay", 1e-6, 1e-2, log=True),
    "dropout": Range("dropout", 0.0, 0.6),
    "temperature": Range("temperature", 1.0, 20.0, log=True),
    "label_weight": Range("label_weight", 0.0, 1.0),
    "layers": Range("layers", 1, MOST_LAYERS, whole=True),
    "widths": Range("widths", 0.25, 4.0, log=True),  # of each hidden layer by the first
    "head_learning_rate": Range("head_learning_rate", 1e-4, 1e-1, log=True),
    "whole_learning_rate": Range("whole_learning_rate", 1e-4, 1e-1, log=True),
}
SGD_RATE = (1e-3, 3e-1)
LIMITS = {"momentum": (0.0, 0.999), "dropout": (0.0, 0.99), "label_weight": (0.0, 1.0), "layers": (1, 20)}


def ranges(
    names: Sequence[str], given: Iterable[str] = (), optimizer: str = "adam", hidden: int = 2
) -> tuple[Range, ...]:
    """What is searched under `names`; `widths` stands for the width of each hidden layer but the first.

    Args:
        given: ranges in place of the documented ones, each as `learning_rate=1e-4:1e-1`.
        optimizer: whose learning rates are searched where none are given.
        hidden: layers of the network, where `layers` isn't searched.

    Raises:
        WrongValue: an unknown name, a range that isn't one, or of what isn't searched.
    """
    for name in names:
        if name not in RANGES:
            raise unknown("--search", name, RANGES)
    known = dict(RANGES)
    if optimizer == "sgd":
        known["learning_rate"] = replace(known["learning_rate"], low=SGD_RATE[0], high=SGD_RATE[1])
    for text in given:
        new = _parse(text)
        if new.name not in names:
            raise WrongValue(f"--range {text}: {new.name} isn't searched. Searched: {', '.join(names)}.")
        known[new.name] = new
    chosen: list[Range] = [known[name] for name in dict.fromkeys(names) if name != "widths"]
    if "widths" in names:
        most = int(known["layers"].high) if "layers" in names else hidden
        chosen += [
            replace(known["widths"], name=f"width_{i}", layers=i if "layers" in names else 0)
            for i in range(2, most + 1)
        ]
    return tuple(chosen)


def amount(text: str) -> int:
    """10.5M -> 10_500_000; also k and plain numbers.

    Raises:
        WrongValue: not a number above 0.
    """
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    try:
        count = float(text.rstrip("kMG")) * units.get(text[-1:], 1)
    except ValueError:
        count = 0
    if not 1 <= count < math.inf:
        raise WrongValue(f"--budget is {text!r}: it must be a number of parameters, such as 10.5M or 500k.")
    return round(count)


def _parse(text: str) -> Range:
    name, _, bounds = text.partition("=")
    if name not in RANGES:
        raise unknown("name in --range", name, RANGES)
    try:
        low, high = map(float, bounds.split(":"))
    except ValueError as error:
        raise WrongValue(
            f"--range {text}: it must be like {name}=LOW:HIGH, such as {_example(name)}."
        ) from error
    usual = RANGES[name]
    least, most = LIMITS.get(name, (0.0, math.inf))
    if usual.whole and not (low.is_integer() and high.is_integer()):
        raise WrongValue(f"--range {text}: {name} is a whole number.")
    if not least <= low < high <= most or high == math.inf:
        raise WrongValue(
            f"--range {text}: it must rise, from {least:g}"
            + (f" to {most:g}." if most < math.inf else ".")
            + f" Such as {_example(name)}."
        )
    if usual.log and low <= 0:
        raise WrongValue(f"--range {text}: {name} is searched on a logarithmic scale and must be above 0.")
    return replace(usual, low=low, high=high)


def _example(name: str) -> str:
    return f"{name}={RANGES[name].low:g}:{RANGES[name].high:g}"
