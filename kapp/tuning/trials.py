"""A trial: its values become settings of the recipe, and its run folder becomes its result."""

from collections.abc import Mapping, Sequence
from typing import Any

from kapp import models
from kapp.errors import ConfigError
from kapp.models import mlp_budget, notation
from kapp.models.notation import Dense, Dropout
from kapp.papers.distillation import NEED_LABELS, TEMPERATURES
from kapp.records import SearchRange
from kapp.run_folder import Run
from kapp.tuning.search import TrialResult

DIGITS = 4  # significant, of a searched value: short enough to be typed


def why_not_searchable(
    name: str, network: str, settings: Mapping[str, Any], searched: Sequence[str] = ()
) -> str | None:
    """Why `name` can't be searched for `network` with these settings; None where it can.

    Args:
        searched: all names of --search.
    """
    spec = models.get_spec(network)
    has_dropout = any(isinstance(layer, Dropout) for layer in spec.layers)
    match name:
        case "learning_rate" | "probe_learning_rate" | "finetune_learning_rate" if settings["rates"]:
            return "--rates are the learning rates: leave out --rates"
        case "mixup" | "cutmix" if settings.get("distillation_loss") in NEED_LABELS:
            return f"--distillation-loss {settings['distillation_loss']} needs one label per image"
        case "temperature" if settings["distillation_loss"] not in TEMPERATURES:
            return f"--distillation-loss is {settings['distillation_loss']}, which has no temperature"
        case "dropout" if has_dropout:
            return f"{network} has dropout already"
        case "dropout" if spec.residual or spec.airbench or not spec.batch_norm:
            return f"{network} has no notation for dropout: use a notation, such as 64c^2-mp-600fc-10fc"
        case "layers" | "widths" if not mlp_budget.is_linear(spec.layers):
            return f"{network} isn't a network of fully connected layers alone, such as linear_3"
        case "layers" | "widths" if has_dropout:
            return f"{network} has dropout, which is lost with other layers: use --search dropout for it"
        case "widths" if len(hidden_units(network)) < 2 and "layers" not in searched:
            return f"{network} has fewer than two hidden layers: search layers as well, or use 512fc^2-10fc"
    return None


def hidden_units(network: str) -> list[int]:
    """The units of each fully connected hidden layer of `network`, at width 1."""
    return [layer.units for layer in models.get_spec(network).layers if isinstance(layer, Dense)][:-1]


def mlp_parameters(network: str, width: float, inputs: int, classes: int) -> int:
    """The number of parameters of a linear network.

    Args:
        inputs: numbers in an image, height x width x channels.
    """
    units = [max(1, round(count * width)) for count in hidden_units(network)]
    return mlp_budget.parameters(units, inputs, classes)


def default_values(
    space: Sequence[SearchRange], network: str, settings: Mapping[str, Any]
) -> dict[str, float]:
    """The values of the recipe's own settings, each the nearest in its range."""
    units = hidden_units(network)
    own = {**settings, "dropout": 0.0, "layers": len(units)}
    own |= {f"width_{i}": count / units[0] for i, count in enumerate(units, start=1)}
    values = {each.name: min(max(own.get(each.name, 1.0), each.low), each.high) for each in space}
    layers = values.get("layers", 0)
    return {each.name: values[each.name] for each in space if each.min_layers <= layers}


def network_and_settings(
    values: Mapping[str, float], network: str, budget: int, inputs: int, classes: int
) -> tuple[str, dict[str, float]]:
    """The network of a trial and the settings that it changes, both with rounded values.

    Args:
        values: of the trial.
        network: of the recipe.
        budget: parameters of a network with searched layers or widths.
        inputs: numbers in an image, height x width x channels.

    Raises:
        ConfigError: there is no such network.
    """
    settings = {name: float(f"{value:.{DIGITS}g}") for name, value in values.items()}
    layers, dropout = settings.pop("layers", None), settings.pop("dropout", 0.0)
    widths = {name: settings.pop(name) for name in values if name.startswith("width_")}
    if layers or widths:
        count = int(layers or len(hidden_units(network)))
        # Relative to the first layer; all layers are equal where their number alone is searched.
        relative = [1.0, *(widths.get(f"width_{i}", 1.0) for i in range(2, count + 1))]
        network = mlp_budget.mlp_for_budget(relative, budget, inputs, classes)
        settings["width"] = 1.0
    if dropout:
        network = notation.with_dropout(models.get_spec(network).notation, dropout)
    return network, settings


def read_result(number: int, run: Run, epochs: int, keep_last: bool) -> TrialResult:
    """The result of trial `number`, which is trained up to epoch `epochs` in `run`.

    Args:
        keep_last: the network is that of the last epoch.

    Raises:
        ConfigError: the run has no metrics.
    """
    rows = run.metrics_rows()
    # With --validate-every the last validation may come after the last epoch.
    last = next((i for i, row in enumerate(rows, start=1) if row["epoch"] >= epochs), len(rows))
    rows = rows[:last]
    if not rows:
        raise ConfigError(f"{run.folder} has no metrics of any epoch.")
    best = max(rows, key=lambda row: row["val_accuracy"])
    if keep_last:
        best = rows[-1]
    return TrialResult(
        number,
        "finished",
        score=best["val_accuracy"],
        best_epoch=best["epoch"],
        seconds=sum(row["seconds"] for row in rows),
    )
