"""Rows, metrics and counts become PNG files; nothing here touches pyplot's global state."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kapp.files import replacing
from kapp.reporting import tables

# Okabe and Ito's colours, told apart by colour-blind readers; grey is for labels, no teacher.
GREY = "#9a9a9a"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
LINES = {"": ("training", "#56B4E9"), "val_": ("validation", "#D55E00")}
WATCHED = "test (watched, not chosen by)"  # what the second line is where no image was held out
DPI = 120
MANY_CLASSES = 20  # beyond which a confusion matrix has no room for numbers


def curves(metrics: pd.DataFrame, path: Path, title: str, selected: bool = True) -> None:
    """Loss and accuracy by epoch side by side, training and validation, one row an epoch.

    Args:
        selected: False where the second line is of test images, because none were held out.
    """
    figure = _wide()
    loss, accuracy = figure.subplots(1, 2)
    _lines(loss, metrics, "loss", selected)
    _lines(accuracy, metrics, "accuracy", selected)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def paired_curves(
    left: pd.DataFrame,
    right: pd.DataFrame,
    quantity: str,
    path: Path,
    titles: Sequence[str] = ("distilled", "on labels"),
    heading: str = "",
) -> None:
    """Paper D's figures 2 (`quantity` "loss") and 3 ("accuracy"): the same model taught twice.

    Losses of different objectives have different units, so each keeps its own axis.
    """
    figure = _wide()
    panels = figure.subplots(1, 2, sharey=quantity != "loss")
    for axes, metrics, title in zip(panels, (left, right), titles):
        _lines(axes, metrics, quantity)
        axes.set_title(title)
        axes.tick_params(labelleft=True)
    figure.suptitle(heading, parse_math=False)
    _save(figure, path)


def phases(parts: Sequence[tuple[str, pd.DataFrame]], path: Path, title: str, selected: bool = True) -> None:
    """Paper A's figures 1 to 3: accuracy by epoch of phase 1, of phase 2 and from scratch, side by side on
    one scale.

    Args:
        parts: each one's title and metrics.
        selected: as for `curves`.
    """
    figure = Figure(figsize=(4.2 * len(parts), 4), layout=ConstrainedLayoutEngine(wspace=0.06))
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (words, metrics) in zip(panels, parts):
        _lines(axes, metrics, "accuracy", selected)
        axes.set_title(words)
        axes.tick_params(labelleft=True)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def bars(frame: pd.DataFrame, path: Path, title: str = "") -> None:
    """Paper D's figure 1: test accuracy of each model, on labels and from each teacher.

    The models that only teach come last.

    Args:
        frame: `tables.rows`, of one data set and width.
    """
    table = tables.experiments(frame)
    teachers = {name for names in table["teachers"] for name in names.split("+") if name}
    teachers -= set(table.loc[table["teachers"] != "", "model"])
    models = sorted(dict.fromkeys(table["model"]), key=lambda model: model in teachers)
    lessons = sorted(dict.fromkeys(table["trained_on"]), key=lambda name: not name.startswith("labels"))
    taught = [name for name in lessons if name != "labels"]
    colours = {"labels": GREY} | dict(zip(taught, cycle(COLOURS)))
    room = max(2, table.groupby("model").size().max())  # bars in a group

    entry = 1.5 + 0.065 * max(map(len, lessons))  # inches of the longest in the legend
    inches = max(entry, 4.5 + 0.4 * (len(models) - 1) + 0.5 * (len(table) - 1))
    figure = Figure(figsize=(inches, 4.8), layout="constrained")
    axes = figure.subplots()
    for place, model in enumerate(models):
        group = table[table["model"] == model]
        group = group.sort_values("trained_on", key=lambda names: names.map(lessons.index))
        for step, row in enumerate(group.to_dict("records")):
            x = place + (step - (len(group) - 1) / 2) * 0.84 / room
            colour = colours[row["trained_on"]]
            axes.bar(x, row["test_accuracy"], 0.78 / room, color=colour)
            _error_bar(axes, x, row)
    alone = "from scratch" if table["phase"].notna().any() else "no teacher"
    for name in lessons:
        label = name.replace("labels", alone) if name.startswith("labels") else f"from {name}"
        axes.bar(0, 0, color=colours[name], label=label)

    ticks = [f"{model}\n(teacher)" if model in teachers else model for model in models]
    axes.set_xticks(range(len(models)), ticks)
    axes.set_xlim(-0.55, len(models) - 0.45)
    axes.set_ylim(0, 1.08 * np.nanmax([0.01, *table["high"], *table["test_accuracy"]]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("test accuracy")
    _plain(axes)
    figure.legend(loc="outside lower center", ncols=min(3, int(inches / entry)), frameon=False, fontsize=9)
    figure.suptitle(title, parse_math=False)
    axes.set_title(_error_bar_words(table), fontsize=9)
    _save(figure, path)


def confusion(counts: pd.DataFrame, path: Path, title: str) -> None:
    """How the test images of each true class (a row) were called, in percent of the row."""
    classes = len(counts)
    few = classes <= MANY_CLASSES
    numbers = counts.to_numpy(dtype=float)
    total = np.where(numbers.sum(axis=1) > 0, numbers.sum(axis=1), np.nan)
    shares = numbers / total[:, np.newaxis]
    greatest = np.nanmax(shares, initial=0.01)

    inches = 3 + 0.42 * classes if few else min(14, 4 + 0.1 * classes)
    figure = Figure(figsize=(inches + 0.8, inches), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=greatest)
    for (row, column), share in np.ndenumerate(shares):
        if few and np.isfinite(share):
            ink = "white" if share > greatest / 2 else "black" if share >= 0.005 else "#b0b0b0"
            cell = {"ha": "center", "va": "center", "color": ink, "fontsize": 9}
            axes.text(column, row, f"{100 * share:.0f}", cell)
    slant = 45 if few else 90
    names = [str(name) for name in counts.columns]
    literal: dict[str, Any] = {"parse_math": False}  # a class may be called $5
    axes.set_xticks(range(classes), names, rotation=slant, ha="right", rotation_mode="anchor", **literal)
    axes.set_yticks(range(classes), [str(name) for name in counts.index], **literal)
    axes.tick_params(labelsize=10 if few else 6, length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, **literal)
    bar = figure.colorbar(image, shrink=0.8, aspect=30, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    _save(figure, path)


def _wide() -> Figure:
    """Room for two panels side by side."""
    return Figure(figsize=(10, 4), layout=ConstrainedLayoutEngine(wspace=0.06))


def _lines(axes: Axes, metrics: pd.DataFrame, quantity: str, selected: bool = True) -> None:
    """Training and validation `quantity` by epoch."""
    # A line through one point is invisible, markers on hundreds are a smear.
    mark = "o" if len(metrics) <= 30 else ""
    for prefix, (label, colour) in LINES.items():
        if prefix + quantity in metrics:
            values = metrics[prefix + quantity]
            label = label if selected or not prefix else WATCHED
            axes.plot(metrics["epoch"], values, color=colour, marker=mark, ms=4, label=label)
    if len(metrics) == 1:
        axes.set_xlim(metrics["epoch"].iloc[0] - 1, metrics["epoch"].iloc[0] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    if quantity != "loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if axes.lines:
        axes.legend(frameon=False)
    _plain(axes)


def _error_bar(axes: Axes, x: float, row: dict) -> None:
    """The interval of a bar and, above it, its value."""
    top = row["test_accuracy"] if pd.isna(row["high"]) else row["high"]
    axes.vlines(x, row["low"], row["high"], color="black", linewidth=1.2)
    # The white ground keeps the grid from striking the number through.
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    axes.annotate(
        f"{100 * row['test_accuracy']:.1f}",
        (x, top),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        bbox=ground,
    )


def _error_bar_words(table: pd.DataFrame) -> str:
    most = table["n"].max()
    if most == 1:
        return "error bars: 95% interval of the test images, one seed"
    if table["n"].min() > 1:
        return f"error bars: ± sample standard deviation, n up to {most}"
    return f"error bars: ± standard deviation where n > 1 (up to {most}), else 95% interval"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
