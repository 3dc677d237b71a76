"""Run folders become rows, and rows become the tables that people read."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapp.papers import all_convolutional as paper_a
from kapp.papers import deep_and_convolutional as paper_d
from kapp.runs import Run

COLUMNS = (
    "run recipe model teachers objective dataset width parameters flops epochs best_epoch batch_size "
    "seed backend precision device val_accuracy test_accuracy low high test_loss calibration_error "
    "seconds images_per_second commit"
).split()
# How a student was taught, and all else that makes an experiment but for the seed. The device and
# the commit are not among them: they are where and when, not what.
TEACHING = (
    "teachers objective temperature label_weight ensemble teacher teacher_epochs teacher_width teacher_seed "
    "source phase head head_shift source_sha256"
).split()
TRAINING = (
    "dataset data_sha256 train_images width epochs batch_size optimizer learning_rate momentum "
    "weight_decay schedule milestones rates warmup_epochs shift flip pooling_norm departures "
    "validation_images validate_every backend precision"
).split()
SETTINGS = ["recipe", "model", *TEACHING, *TRAINING]
COLUMNS += [name for name in SETTINGS if name not in COLUMNS]
PUBLISHED_NOTE = (
    "The papers' figures were published for networks of full size, paper D's for CIFAR-10. In parentheses: "
    "this row's data set, amount of training images or width is another, and the two are not comparable."
)


def rows(folders: Iterable[Path | str]) -> pd.DataFrame:
    """One row per finished run, in the order given; what a run does not tell is NaN."""
    runs = [Run(folder) for folder in dict.fromkeys(Path(folder).resolve() for folder in folders)]
    return pd.DataFrame([_row(run) for run in runs if run.finished], columns=COLUMNS)


def experiments(frame: pd.DataFrame) -> pd.DataFrame:
    """`rows` that share everything but the seed, put together; the order of first sight stays.

    Returns:
        The settings and parameters of each, and `trained_on` ("labels", "deep_resnet", ...,
        unlike any other of the same model), `n` runs, the means of `val_accuracy` and
        `test_accuracy`, their sample standard deviations `val_spread` and `test_spread` (NaN for
        one run), and (`low`, `high`): the 95% interval of one run, mean ± deviation of several.
    """
    # Two transfers that differ in phase 2 share their phase 1: run twice, it is one.
    frame = frame.drop_duplicates([*SETTINGS, "seed", "test_accuracy", "val_accuracy", "test_loss"])
    by_settings = frame.groupby(SETTINGS, dropna=False, sort=False, as_index=False)
    table = by_settings.agg(
        parameters=("parameters", "first"),
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
    table["trained_on"] = [_trained_on(row) for row in table.to_dict("records")]
    alike = ["model", "dataset", "width", "trained_on"]
    for _, twins in table.groupby(alike, dropna=False, sort=False):
        for name in SETTINGS:
            if twins[name].nunique(dropna=False) > 1:
                words = f", {name.replace('_', ' ')} "
                table.loc[twins.index, "trained_on"] += words + twins[name].map(plain)
    return table


def comparison(frame: pd.DataFrame) -> str:
    """`rows` as the Markdown table that a reader of the papers wants, and what its marks mean."""
    table = experiments(frame)
    models = list(dict.fromkeys(table["model"]))
    table = table.sort_values("model", key=lambda names: names.map(models.index), kind="stable")
    records = table.to_dict("records")
    columns: dict[str, list[str]] = {"model": list(table["model"])}
    columns |= {
        name: [plain(value) for value in table[name]]
        for name in ("dataset", "width")
        if table[name].nunique(dropna=False) > 1
    }
    columns |= {
        "trained on": list(table["trained_on"]),
        "parameters": [amount(count) for count in table["parameters"]],
        "epochs": [plain(epochs) for epochs in table["epochs"]],
        "n": [plain(n) for n in table["n"]],
        "validation": [_mean(row["val_accuracy"], row["val_spread"]) for row in records],
        "test (95% interval)": [
            interval(row["test_accuracy"], row["low"], row["high"])
            if row["n"] == 1
            else _mean(row["test_accuracy"], row["test_spread"])
            for row in records
        ],
    }
    notes = ["± is the sample standard deviation over n runs."] if (table["n"] > 1).any() else []
    published = [_published(row) for row in records]
    papers = sorted({paper for paper, _ in published if paper})
    if papers:
        both = len(papers) > 1
        columns["papers A and D" if both else f"paper {papers[0]}"] = [
            f"{paper}: {text}" if both and text else text for paper, text in published
        ]
        notes += [PUBLISHED_NOTE]
    return "\n\n".join([markdown(pd.DataFrame(columns)), *notes])


def markdown(frame: pd.DataFrame) -> str:
    """`frame` as a GitHub table, each column written in its own unit and padded, to be read as it is.

    Accuracies become percent; `low` and `high`, where present, join `test_accuracy`.
    """
    shown = [name for name in frame if name not in ("low", "high")]
    lines = [[str(name).replace("_", " ") for name in shown]]
    for row in frame.to_dict("records"):
        lines += [[_cell(name, row).replace("|", "\\|").replace("\n", " ") for name in shown]]
    width = [max(3, *map(len, column)) for column in zip(*lines)]
    right = [pd.api.types.is_numeric_dtype(frame[name]) for name in shown]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(width, right)]
    padded = [
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, width, right)] for cells in lines
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def percent(share: float) -> str:
    """0.5512 -> "55.1%"."""
    return f"{100 * share:.1f}%"


def interval(share: float, low: float, high: float) -> str:
    """0.5512, 0.5414, 0.5609 -> "55.1% (54.1 to 56.1)"."""
    bounds = "" if pd.isna(low) or pd.isna(high) else f" ({100 * low:.1f} to {100 * high:.1f})"
    return percent(share) + bounds


def amount(count: float) -> str:
    """10_510_346 -> "10.5M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return plain(count)


def plain(value: Any) -> str:
    """A value as people write it: no trailing .0, nothing for a missing one."""
    if isinstance(value, list):
        return " ".join(map(plain, value))
    if pd.isna(value):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _row(run: Run) -> dict[str, Any]:
    result = run.result
    low, high = result.get("test_interval") or (np.nan, np.nan)
    row = {
        **result,
        "run": run.name,
        "teachers": "+".join(result.get("teachers") or []),
        "teacher": "+".join(result.get("teacher") or []),  # as it was given: a name, a run, a file
        # Lists as one value, to group rows by.
        **{name: plain(result.get(name)) for name in ("departures", "milestones", "rates")},
        "low": low,
        "high": high,
        "images_per_second": result.get("train_images_per_second"),
    }
    return {name: np.nan if row.get(name) is None else row[name] for name in COLUMNS}


def _trained_on(row: dict) -> str:
    """What the run learned from; paper D's objective goes without saying."""
    if not pd.isna(row["phase"]):
        with_head = "" if row["head"] == "linear" else f", {row['head']} head"
        return f"{row['source']}, {row['phase']}{with_head}"
    if not row["teachers"]:
        return "labels"
    words = [row["teachers"].replace("+", " + ")]
    if row["objective"] != paper_d.OBJECTIVE:
        words += [plain(row["objective"])]
    if row["objective"] == "kl":
        words += [f"temperature {plain(row['temperature'])}"]
    if row["label_weight"] > 0:
        words += [f"{plain(100 * row['label_weight'])}% labels"]
    return ", ".join(word for word in words if word)


def _published(row: dict) -> tuple[str, str]:
    """The paper and its figure for this model and teaching, in parentheses where not comparable."""
    phase = "scratch" if pd.isna(row["phase"]) else row["phase"]
    if phase != "scratch" and row["head"] != "linear":
        return "", ""
    figure: paper_a.Row | paper_d.Row | None = None
    if not row["teachers"]:
        figure = paper_a.published(row["model"], row["dataset"], phase)
        paper, comparable = "A", row["width"] == 1
    if figure is None and phase == "scratch":
        figure = paper_d.published(row["model"], row["teachers"] or None)
        full_size = row["width"] == 1 and row["train_images"] == paper_d.TRAIN
        paper, comparable = "D", row["dataset"] == "cifar10" and full_size
    another_teaching = row["teachers"] and (
        row["objective"] not in ("cross_entropy", paper_d.OBJECTIVE) or row["label_weight"] > 0
    )
    if figure is None or another_teaching:
        return "", ""
    text = f"{100 * figure.accuracy:.2f}%, {figure.epochs} epochs"
    return paper, text if comparable else f"({text})"


def _mean(share: float, spread: float) -> str:
    if pd.isna(share):
        return ""
    return percent(share) if pd.isna(spread) else f"{percent(share)} ± {100 * spread:.1f}"


def _cell(name: Hashable, row: dict) -> str:
    value = row[name]
    if pd.isna(value) or isinstance(value, str):
        return plain(value)
    if name == "test_accuracy" and "low" in row and "high" in row:
        return interval(value, row["low"], row["high"])
    if str(name).endswith("accuracy"):
        return percent(value)
    if name in ("parameters", "flops"):
        return amount(value)
    if name in ("seconds", "images_per_second"):
        return f"{value:,.0f}"
    return f"{value:.3f}" if name in ("test_loss", "calibration_error") else plain(value)
