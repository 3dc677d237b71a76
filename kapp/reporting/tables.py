"""Runs as rows of a table, and how numbers are written."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapp.data import Augmentation
from kapp.papers import hu, ratusznik
from kapp.papers.distillation import TEMPERATURES
from kapp.reporting.markdown import Block, Paragraph, Table, to_markdown
from kapp.run_folder import ADDED_SETTINGS, Run

COLUMNS = (
    "run recipe model teachers distillation_loss dataset width parameters flops epochs best_epoch batch_size "
    "seed backend precision device val_accuracy test_accuracy low high test_loss calibration_error "
    "seconds images_per_second commit labeled_images"
).split()
# What a network learns from.
SUPERVISION = (
    "teachers distillation_loss temperature standardize_logits label_weight distill_weight ensemble teacher "
    "teacher_epochs teacher_width teacher_seed source phase head probe_crop_padding source_sha256"
).split()
# How it is trained. The device and the commit are where and when, not what.
TRAINING = (
    "dataset data_sha256 train_images labeled unlabeled width epochs batch_size optimizer learning_rate "
    "momentum nesterov bias_scaler weight_decay label_smoothing ema schedule milestones rates warmup_epochs "
    "crop_padding flip flip_order crop_scale hue saturation brightness "
    "random_erasing mixup cutmix pooling_norm code_variants validation_images "
    "validate_every backend precision"
).split()
# Settings that mostly follow from another one: the first three are a fraction of the epochs.
FOLLOWED = dict.fromkeys(("milestones", "warmup_epochs", "validate_every"), "epochs")
FOLLOWED |= {"train_images": "labeled"}
# The views that are off by default are named where they are on.
OFF = {
    each.name: each.default
    for each in dataclasses.fields(Augmentation)
    if each.name not in ("crop_padding", "flip", "flip_order")
}
EXPERIMENT = ["recipe", "model", *SUPERVISION, *TRAINING]  # runs that share these differ in the seed only
COLUMNS += [name for name in EXPERIMENT if name not in COLUMNS]
PHASES = {"linear_probe": "linear probe", "fine_tuning": "fine-tuning"}
PUBLISHED_NOTE = (
    "In parentheses: an accuracy that is not comparable with this row. The words after its epochs are the "
    "paper's data set, training images, widths, pooling or code where this row has others. The accuracies of "
    "Hu 2018 come from its code, which differs from its text (`--code-variants`). Other settings of the "
    "training, such as epochs, may differ in every row."
)


def rows(folders: Iterable[Path | str]) -> pd.DataFrame:
    """Returns one row per finished run: its settings, hyperparameters and result, as `merged`.

    Args:
        folders: run folders; unfinished and repeated ones have no row.

    Returns:
        `COLUMNS`, NaN where a run has no value.
    """
    runs = [Run(folder) for folder in dict.fromkeys(Path(folder).resolve() for folder in folders)]
    return pd.DataFrame([_row(run) for run in runs if run.is_finished], columns=COLUMNS)


def merged(run: Run) -> dict[str, Any]:
    """Returns the settings, hyperparameters and result of a finished run; of equal names the last counts."""
    config, result = run.config, run.result
    low, high = result.test_interval
    return {
        "distillation_loss": "cross_entropy",  # unless the settings have another
        **ADDED_SETTINGS,
        **config.settings,
        **result.hyperparameters,
        **{each.name: getattr(result, each.name) for each in dataclasses.fields(result)},
        "run": run.name,
        "data_sha256": config.data_sha256,
        "source_sha256": config.source_sha256,
        "low": low,
        "high": high,
        "images_per_second": result.train_images_per_second,
    }


def experiments(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per experiment: runs that share everything but the seed.

    Args:
        frame: as from `rows`.

    Returns:
        The `EXPERIMENT` columns, the parameters and the labeled images; `trained_on` ("labels",
        "deep_resnet", ...), which no other experiment of the model, data set and width has (a setting that
        follows from another one, as `FOLLOWED`, isn't named in it); `n`, the number of runs; means of
        `val_accuracy` and `test_accuracy`; their sample standard deviations `val_spread` and `test_spread`,
        NaN for one run; and (`low`, `high`): the 95% interval of one run, or mean ± deviation of several.
    """
    # Transfers that differ in the fine-tuning alone share their linear probe: it counts once.
    frame = frame.drop_duplicates([*EXPERIMENT, "seed", "test_accuracy", "val_accuracy", "test_loss"])
    table = frame.groupby(EXPERIMENT, dropna=False, sort=False, as_index=False).agg(
        parameters=("parameters", "first"),
        labeled_images=("labeled_images", "first"),
        n=("run", "size"),
        val_accuracy=("val_accuracy", "mean"),
        val_spread=("val_accuracy", "std"),
        test_accuracy=("test_accuracy", "mean"),
        test_spread=("test_accuracy", "std"),
        low=("low", "first"),
        high=("high", "first"),
    )
    several = table["n"] > 1
    table.loc[several, "low"] = table["test_accuracy"] - table["test_spread"]
    table.loc[several, "high"] = table["test_accuracy"] + table["test_spread"]
    table["trained_on"] = [trained_on(row) for row in table.to_dict("records")]
    for _, group in table.groupby(["model", "dataset", "width", "trained_on"], dropna=False, sort=False):
        for name in EXPERIMENT:
            of_equals = group.groupby(FOLLOWED[name], dropna=False)[name] if name in FOLLOWED else group[name]
            if np.max(of_equals.nunique(dropna=False)) > 1:
                table.loc[group.index, "trained_on"] += [_difference(name, value) for value in group[name]]
    return table


def changes(row: Mapping[Any, Any], reference: Mapping[Any, Any]) -> str:
    """Returns what an experiment has otherwise than `reference`, in words: "width 0.5, no flips".

    A setting that follows from another one that differs, as `FOLLOWED`, isn't named.

    Args:
        row, reference: rows of `experiments`.
    """
    supervision = trained_on(row)
    learns_otherwise = supervision != trained_on(reference)
    differing = [
        name
        for name in (TRAINING if learns_otherwise else [*SUPERVISION, *TRAINING])
        if format_value(row[name]) != format_value(reference[name])
    ]
    words = [row["model"]] if row["model"] != reference["model"] else []
    words += [supervision] if learns_otherwise else []
    for name in differing:
        if name == "flip":
            words += ["flips" if row[name] else "no flips"]
        elif name == "labeled" and pd.isna(row[name]):
            words += ["all labels"]
        elif FOLLOWED.get(name) not in differing:
            words += [f"{name.replace('_', ' ')} {format_value(row[name]) or 'none'}"]
    return ", ".join(words)


def _difference(name: str, value: Any) -> str:
    """How a setting is named that other experiments have otherwise."""
    if name == "flip":
        return "" if value else ", no flips"
    if name in OFF and value == OFF[name]:
        return ""
    if name == "labeled" and pd.isna(value):
        return ", all labels"
    return f", {name.replace('_', ' ')} {format_value(value) or 'none'}"


def comparison(frame: pd.DataFrame) -> str:
    """Returns `comparison_blocks` as Markdown, for a terminal."""
    return to_markdown(comparison_blocks(frame)).rstrip()


def comparison_blocks(frame: pd.DataFrame) -> list[Block]:
    """Returns the table of experiments next to the papers' accuracies, and notes on it.

    Args:
        frame: as from `rows`.
    """
    table = experiments(frame)
    models = list(dict.fromkeys(table["model"]))
    table = table.sort_values("model", key=lambda names: names.map(models.index), kind="stable")
    varied = [name for name in ("dataset", "width") if table[name].nunique(dropna=False) > 1]
    published = [_published(row) for row in table.to_dict("records")]
    papers = sorted({paper for paper, _ in published if paper})
    lines: list[dict[str, str | int]] = []
    for row, (paper, accuracy) in zip(table.to_dict("records"), published):
        line = {
            "model": row["model"],
            **{name: format_value(row[name]) for name in varied},
            "trained on": row["trained_on"],
            "parameters": format_si(row["parameters"]),
            "epochs": format_value(row["epochs"]),
            "n": format_value(row["n"]),
            "validation": _mean(row["val_accuracy"], row["val_spread"]),
            "test (95% interval)": interval(row["test_accuracy"], row["low"], row["high"])
            if row["n"] == 1
            else _mean(row["test_accuracy"], row["test_spread"]),
        }
        lines += [{**line, **{name: accuracy if name == paper else "" for name in papers}}]
    blocks: list[Block] = [Table(lines)]
    if (table["n"] > 1).any():
        blocks += [Paragraph("± is the sample standard deviation over n runs.")]
    if papers:
        blocks += [Paragraph(PUBLISHED_NOTE)]
    return blocks


def pairs(values: Mapping[str, Any]) -> Table:
    """Returns a table of names and values, without empty values."""
    written = {name.replace("_", " "): format_value(value) for name, value in values.items()}
    return Table([{"": name, "value": value} for name, value in written.items() if value])


def trained_on(row: Mapping[Any, Any]) -> str:
    """Returns what the run of a row learned from, in words: "labels", "deep_resnet, kl, temperature 4"."""
    if not pd.isna(row["phase"]):
        head = "" if row["head"] == "linear" else f", {row['head']} head"
        return f"{row['source']}, {PHASES[row['phase']]}{head}"
    if not row["teachers"]:
        return "labels"
    words = [row["teachers"].replace("+", " + ")]
    if row["distillation_loss"] != ratusznik.DISTILLATION_LOSS:
        words += [format_value(row["distillation_loss"])]
    if row["distillation_loss"] in TEMPERATURES:
        words += [f"temperature {format_value(row['temperature'])}"]
    if row["standardize_logits"] is True:
        words += ["standardized logits"]
    if row["label_weight"] > 0:
        words += [f"label weight {format_value(row['label_weight'])}"]
    return ", ".join(filter(None, words))


def percent(fraction: float) -> str:
    """0.5512 -> "55.1%"."""
    return f"{100 * fraction:.1f}%"


def interval(fraction: float, low: float, high: float) -> str:
    """0.5512, 0.5414, 0.5609 -> "55.1% (54.1 to 56.1)"."""
    return f"{percent(fraction)} ({100 * low:.1f} to {100 * high:.1f})"


def points(difference: float, low: float, high: float) -> str:
    """0.031, 0.02, 0.042 -> "+3.1 points (+2.0 to +4.2)"."""
    return f"{100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def format_si(count: float) -> str:
    """10_510_346 -> "10.5M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return format_value(count)


def format_value(value: Any) -> str:
    """A setting as text: no trailing .0, entries of a list joined by spaces, "" for None and NaN."""
    if isinstance(value, list | tuple):
        return " ".join(map(format_value, value))
    if pd.isna(value):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _row(run: Run) -> dict[str, Any]:
    values = merged(run)
    # Lists as text, to group rows by.
    for name in ("code_variants", "milestones", "rates", "teacher_epochs"):
        values[name] = format_value(values.get(name))
    for name in ("teachers", "teacher"):  # names of networks; as in --teacher: names, runs or files
        values[name] = "+".join(values.get(name) or [])
    return {name: np.nan if values.get(name) is None else values[name] for name in COLUMNS}


def _published(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The paper and its accuracy for this model and supervision, in parentheses where not comparable."""
    phase = "scratch" if pd.isna(row["phase"]) else row["phase"]
    if phase != "scratch" and row["head"] != "linear":
        return "", ""
    published: hu.Row | ratusznik.Row | None = None
    if not row["teachers"]:
        published = hu.published(row["model"], row["dataset"], phase)
        paper, dataset, images = "Hu 2018", row["dataset"], hu.train_images(row["dataset"])
    elif row["distillation_loss"] != ratusznik.DISTILLATION_LOSS or row["label_weight"] > 0:
        return "", ""
    if published is None and phase == "scratch":
        published = ratusznik.published(row["model"], row["teachers"] or None)
        paper, dataset, images = "Ratusznik et al.", "cifar10", ratusznik.TRAIN
    if published is None:
        return "", ""
    is_code = {*_words(row["code_variants"])} == {*hu.code_variants(row["model"])}
    other = {
        dataset: row["dataset"] != dataset,
        "from cifar10": phase != "scratch" and row["source"] != "cifar10",
        f"{images:,} images": row["train_images"] != images,
        "all labels": not pd.isna(row["labeled"]) and bool(row["teachers"]),
        "width 1": row["width"] != 1,
        "teacher of width 1": not pd.isna(row["teacher_width"]) and row["teacher_width"] != 1,
        "max pooling": row["pooling_norm"] not in ("inf", math.inf) and not pd.isna(row["pooling_norm"]),
        "its code": paper == "Hu 2018" and not is_code,
    }
    words = [f"{100 * published.accuracy:.2f}%", f"{published.epochs} epochs"]
    text = ", ".join([*words, *(setting for setting, differs in other.items() if differs)])
    return paper, f"({text})" if any(other.values()) else text


def _words(text: Any) -> list[str]:
    return [] if pd.isna(text) else str(text).split()


def _mean(fraction: float, spread: float) -> str:
    if pd.isna(fraction):
        return ""
    return percent(fraction) if pd.isna(spread) else f"{percent(fraction)} ± {100 * spread:.1f}"
