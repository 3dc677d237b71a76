"""A trial: values -> the config that a recipe runs, and its run folder -> what became of it."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kapp import cli, models
from kapp.errors import WrongValue
from kapp.models import budget, notation
from kapp.models.notation import Dense, Dropout
from kapp.runs import Run
from kapp.tuning.search import Outcome
from kapp.tuning.space import Range

DIGITS = 4  # of a value that is trained with: enough, and short enough to be typed


def why_not(name: str, config: Any, network: str) -> str | None:
    """Why `name` can't be searched for a recipe's resolved `config`, or None where it can."""
    entry = models.find(network)
    match name:
        case "learning_rate" if config.rates:
            return "--rates are the learning rates"
        case "temperature" if config.objective != "kl":
            return f"--objective is {config.objective}, and only kl has a temperature"
        case "dropout" if any(isinstance(step, Dropout) for step in entry.steps):
            return f"{network} has dropout already"
        case "dropout" if entry.residual or not entry.normalised:
            return f"{network} can't be written with dropout: give a notation, such as 64c^2-mp-600fc-10fc"
        case "layers" | "widths" if not budget.is_linear(entry.steps):
            return f"{network} isn't a network of fully connected layers alone, such as linear_3"
        case "layers" | "widths" if any(isinstance(step, Dropout) for step in entry.steps):
            return f"{network} has dropout, which other layers would lose: give it without, --search dropout"
        case "widths" if len(hidden_units(network)) < 2:
            return f"{network} has fewer than two hidden layers: search layers as well, or give 512fc^2-10fc"
    return None


def hidden_units(network: str) -> list[int]:
    """Units of each fully connected hidden layer of `network`, at width 1."""
    return [step.units for step in models.find(network).steps if isinstance(step, Dense)][:-1]


def parameter_budget(given: int | None, config: Any, network: str, inputs: int, classes: int) -> int:
    """The parameters that a linear network of the search has: `given`, or as many as `network` has at the
    config's width."""
    units = [max(1, round(count * config.width)) for count in hidden_units(network)]
    return given or budget.parameters(units, inputs, classes)


def default_values(ranges: Sequence[Range], config: Any, network: str) -> dict[str, float]:
    """The values of a recipe's resolved `config`, each the nearest in its range: no weight decay is the least
    on a logarithmic scale."""
    units = hidden_units(network)
    own: dict[str, float] = {"dropout": 0.0, "layers": len(units)}
    own |= {f"width_{i}": count / units[0] for i, count in enumerate(units, start=1)}
    named = {
        each.name: own[each.name] if each.name in own else getattr(config, each.name, 1.0) for each in ranges
    }
    nearest = {each.name: each.nearest(named[each.name]) for each in ranges}
    layers = nearest.get("layers", 0)
    return {each.name: nearest[each.name] for each in ranges if each.layers <= layers}


def settled(
    config: Any, field: str, values: dict[str, float], parameters: int, inputs: int, classes: int
) -> Any:
    """A recipe's resolved `config` with `values` in it.

    Args:
        field: of the config, that names the network.
        parameters: of a network whose widths are searched.
        inputs: numbers in an image.

    Raises:
        WrongValue: a network that can't be.
    """
    network = getattr(config, field)
    values = {name: float(f"{value:.{DIGITS}g}") for name, value in values.items()}
    changes: dict[str, Any] = {name: value for name, value in values.items() if hasattr(config, name)}
    written = models.find(network).notation
    if any(name == "layers" or name.startswith("width_") for name in values):
        units = hidden_units(network)
        count = int(values.get("layers", len(units)))
        # All as wide as the first where only the number of layers is searched.
        relative = [1.0, *(values.get(f"width_{i}", 1.0) for i in range(2, count + 1))]
        written = budget.linear(relative, parameters, inputs, classes)
        changes |= {field: written, "width": 1.0}
    if values.get("dropout"):
        changes |= {field: notation.with_dropout(written, values["dropout"])}
    return replace(config, **changes)


def validated(run: Run, epochs: int, config: Any, network: str, inputs: int, classes: int) -> Outcome:
    """What became of a trial that was trained up to epoch `epochs` in `run`: its score is the best validation
    accuracy that its metrics hold. Of a linear network the parameters are told.

    Raises:
        WrongValue: it wasn't trained.
    """
    rows = run.epochs()
    # A validation every so many images may come after the last epoch: that one belongs to it.
    ends = [i for i, row in enumerate(rows, start=1) if row["epoch"] >= epochs]
    rows = rows[: ends[0]] if ends else rows
    if not rows:
        raise WrongValue(f"{run.folder} holds no epoch.")
    best = max(rows, key=lambda row: row["val_accuracy"])
    linear = budget.is_linear(models.find(network).steps)
    return Outcome(
        "finished",
        score=best["val_accuracy"],
        best_epoch=best["epoch"],
        seconds=sum(row["seconds"] for row in rows),
        network=network,
        parameters=parameter_budget(None, config, network, inputs, classes) if linear else None,
        config=cli.as_json(config),
    )


def clear() -> None:
    """Forget the networks of a trial: those of many would fill the memory."""
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
