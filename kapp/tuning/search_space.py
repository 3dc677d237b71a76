"""What a sweep searches, and in which ranges; checked before Keras is imported."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kapp.errors import ConfigError, unknown
from kapp.records import SearchRange

MAX_LAYERS = 5.0  # hidden layers of a linear network: Urban et al. 2016, table 2

# Urban et al. 2016 searched these values by Bayesian optimization. The ranges are kapp's own, wide around the
# values of the papers.
RANGES = {
    "learning_rate": SearchRange("learning_rate", 1e-4, 1e-2, log=True),  # of adam and adamw
    "momentum": SearchRange("momentum", 0.5, 0.99),
    "weight_decay": SearchRange("weight_decay", 1e-6, 1e-2, log=True),
    "dropout": SearchRange("dropout", 0.0, 0.6),
    "temperature": SearchRange("temperature", 1.0, 20.0, log=True),
    "label_weight": SearchRange("label_weight", 0.0, 1.0),
    "distill_weight": SearchRange("distill_weight", 0.1, 10.0, log=True),
    "layers": SearchRange("layers", 1.0, MAX_LAYERS, integer=True),
    "widths": SearchRange("widths", 0.25, 4.0, log=True),  # of each hidden layer, relative to the first
    "probe_learning_rate": SearchRange("probe_learning_rate", 1e-4, 1e-1, log=True),
    "finetune_learning_rate": SearchRange("finetune_learning_rate", 1e-4, 1e-1, log=True),
    "crop_scale": SearchRange("crop_scale", 0.2, 1.0),
    "hue": SearchRange("hue", 0.0, 0.1),
    "saturation": SearchRange("saturation", 0.0, 0.5),
    "brightness": SearchRange("brightness", 0.0, 0.5),
    "random_erasing": SearchRange("random_erasing", 0.0, 0.5),
    "mixup": SearchRange("mixup", 0.0, 1.0),
    "cutmix": SearchRange("cutmix", 0.0, 1.0),
    "label_smoothing": SearchRange("label_smoothing", 0.0, 0.3),
    "ema": SearchRange("ema", 0.9, 0.999),
}
SGD_LEARNING_RATE = SearchRange("learning_rate", 1e-3, 1.0, log=True)
LIMITS = {
    "momentum": (0.0, 0.999),
    "dropout": (0.0, 0.99),
    "label_weight": (0.0, 1.0),
    "layers": (1, 20),
    **dict.fromkeys(("label_smoothing", "ema"), (0.0, 0.9999)),
    "crop_scale": (0.01, 1.0),
    "hue": (0.0, 0.5),
    **dict.fromkeys(("saturation", "brightness", "random_erasing"), (0.0, 1.0)),
}


def ranges(
    names: Sequence[str], overrides: Iterable[str] = (), optimizer: str = "adam", hidden_layers: int = 2
) -> tuple[SearchRange, ...]:
    """The ranges of `names`; `widths` becomes one range per hidden layer but the first.

    Args:
        names: of `RANGES`.
        overrides: ranges that replace the usual ones, such as `learning_rate=1e-4:1e-1`.
        optimizer: decides the usual range of the learning rate.
        hidden_layers: of the network, where `layers` isn't searched.

    Raises:
        ConfigError: an unknown name, a range that isn't one, or one of a value that isn't searched.

    Example:

    >>> ranges(["momentum"], ["momentum=0.8:0.99"])[0].low
    0.8
    """
    for name in names:
        if name not in RANGES:
            raise unknown("--search", name, RANGES)
    chosen = dict(RANGES)
    if optimizer == "sgd":
        chosen["learning_rate"] = SGD_LEARNING_RATE
    for text in overrides:
        override = _parse_range(text)
        if override.name not in names:
            raise ConfigError(
                f"--search-range {text}: {override.name} isn't searched. Searched: {', '.join(names)}."
            )
        chosen[override.name] = override
    space = [chosen[name] for name in dict.fromkeys(names) if name != "widths"]
    if "widths" in names:
        searches_layers = "layers" in names
        last = int(chosen["layers"].high) if searches_layers else hidden_layers
        for i in range(2, last + 1):
            width = replace(chosen["widths"], name=f"width_{i}", min_layers=i if searches_layers else 0)
            space.append(width)
    return tuple(space)


def parse_count(text: str) -> int:
    """The number in `text`, such as 1234, 500k or 10.5M.

    Raises:
        ConfigError: not a number above 0.

    Example:

    >>> parse_count("10.5M")
    10500000
    """
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    try:
        count = float(text.rstrip("kMG")) * units.get(text[-1:], 1)
    except ValueError:
        count = 0
    if not 1 <= count < math.inf:
        raise ConfigError(f"--budget is {text!r}: it must be a number of parameters, such as 10.5M or 500k.")
    return round(count)


def _parse_range(text: str) -> SearchRange:
    name, _, bounds = text.partition("=")
    if name not in RANGES:
        raise unknown("name in --search-range", name, RANGES)
    usual, (smallest, largest) = RANGES[name], LIMITS.get(name, (0.0, math.inf))
    example = f"such as {name}={usual.low:g}:{usual.high:g}"
    try:
        low, high = map(float, bounds.split(":"))
    except ValueError as error:
        raise ConfigError(f"--search-range {text}: it must be like {name}=LOW:HIGH, {example}.") from error
    if usual.integer and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"--search-range {text}: {name} is a whole number.")
    if not smallest <= low < high <= largest or high == math.inf:
        bound = f" and HIGH at most {largest:g}" if largest < math.inf else ""
        raise ConfigError(
            f"--search-range {text}: LOW must be below HIGH, LOW at least {smallest:g}{bound}, {example}."
        )
    if usual.log and low <= 0:
        raise ConfigError(
            f"--search-range {text}: {name} is searched on a logarithmic scale and must be above 0."
        )
    return replace(usual, low=low, high=high)
