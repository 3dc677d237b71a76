"""Figures of runs, each written to the PNG file `path` with `title` above it, without pyplot."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kapp.fileio import atomic_file
from kapp.reporting import tables

# Okabe and Ito's colors, which color-blind readers can distinguish; gray is for training on labels.
GRAY = "#9a9a9a"
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
BLUE, ORANGE = COLORS[0], COLORS[5]
LINES = {"": ("training", "#56B4E9"), "val_": ("validation", "#D55E00")}
TEST_LABEL = "test (not used for selection)"  # of the second line, where no image was held out
DPI = 120
NAME_WIDTH = 60  # characters of a line of a long name
MAX_NUMBERED_CLASSES = 20  # a larger confusion matrix has no room for numbers


def curves(metrics: pd.DataFrame, path: Path, title: str, has_validation: bool = True) -> None:
    """Draws loss and accuracy per epoch, of training and validation.

    Args:
        metrics: the rows of metrics.csv.
        has_validation: False where the `val_` columns are of test images.
    """
    figure = wide_figure()
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        _lines(axes, metrics, quantity, has_validation)
    save(figure, path, title)


def side_by_side(
    parts: Sequence[tuple[str, pd.DataFrame]],
    quantity: str,
    path: Path,
    title: str,
    has_validation: bool = True,
) -> None:
    """Draws "loss" or "accuracy" per epoch of several trainings, one panel each.

    Ratusznik et al.'s figures 2 and 3 compare a distilled student with one on labels so, and Hu 2018's
    figures 1 to 3 the phases of a transfer. Losses of different kinds have different units and an axis each.

    Args:
        parts: title and rows of metrics.csv of each panel.
        quantity: "loss" or "accuracy".
        has_validation: as for `curves`.
    """
    figure = wide_figure(max(10, 4.2 * len(parts)) if len(parts) > 1 else 6)
    panels = figure.subplots(1, len(parts), sharey=quantity != "loss", squeeze=False)[0]
    for axes, (name, metrics) in zip(panels, parts):
        _lines(axes, metrics, quantity, has_validation)
        axes.set_title(name, parse_math=False)
        axes.tick_params(labelleft=True)
    save(figure, path, title)


def over_epochs(
    parts: Sequence[tuple[str, Sequence[pd.DataFrame]]], path: Path, title: str, has_validation: bool = True
) -> None:
    """Draws the validation accuracy per epoch of several experiments: the mean of the seeds, and the range
    between the lowest and the highest.

    Args:
        parts: name and rows of metrics.csv, for each seed, of each experiment.
        has_validation: as for `curves`.
    """
    figure = wide_figure(7)
    axes = figure.subplots()
    for (name, seeds), color in zip(parts, (GRAY, ORANGE, *COLORS)):
        accuracies = pd.concat([each.set_index("epoch")["val_accuracy"] for each in seeds], axis=1)
        marker = "o" if len(accuracies) == 1 else ""
        axes.plot(
            accuracies.mean(axis=1), marker=marker, color=color, label=name.replace("$", r"\$")
        )  # no formula
        axes.fill_between(
            accuracies.index, accuracies.min(axis=1), accuracies.max(axis=1), color=color, alpha=0.3
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{'validation' if has_validation else 'test'} accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, loc="lower right")
    simplify(axes)
    save(figure, path, title)


def by_quantity(table: pd.DataFrame, quantity: str, label: str, path: Path, title: str) -> None:
    """Draws the test accuracy by a number, such as the epochs of the training, a panel per model and a line
    for each kind of supervision.

    Args:
        table: rows as from `tables.experiments`, of one data set and width, with `series`, the name of the
            line that a row is a point of.
        quantity: the column of the number.
        label: what it counts, for the axis.
    """
    groups = list(table.groupby("model", sort=False))
    figure = Figure(figsize=(max(7, 5 * len(groups)), 4.6), layout=ConstrainedLayoutEngine(wspace=0.06))
    names = sorted(dict.fromkeys(table["series"]), key=lambda name: not name.startswith("labels"))
    colors = {"labels": GRAY} | dict(zip((name for name in names if name != "labels"), cycle(COLORS)))
    lines: dict[str, Any] = {}
    for axes, (model, group) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups):
        for name in (name for name in names if name in set(group["series"])):
            line = group[group["series"] == name].sort_values(quantity)
            accuracy = line["test_accuracy"].to_numpy()
            errors = [accuracy - line["low"].to_numpy(), line["high"].to_numpy() - accuracy]
            style: dict[str, Any] = {"marker": "o", "markersize": 5, "capsize": 3, "color": colors[name]}
            lines[name] = axes.errorbar(line[quantity], accuracy, errors, **style)
        axes.set_xscale("log")
        ticks = sorted(set(group[quantity]))
        axes.set_xticks(ticks, [f"{each:g}" for each in ticks])
        axes.minorticks_off()
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        axes.set_title(model, parse_math=False)
        simplify(axes)
    labels = [_source_label(name, table) for name in lines]
    figure.legend([*lines.values()], labels, loc="outside lower center", frameon=False, fontsize=9)
    save(figure, path, f"{title}\n{_error_bars(table['n'].min(), table['n'].max())}")


def differences(rows: Sequence[tuple[str, float, float, float]], path: Path, title: str) -> None:
    """Draws the difference of each experiment to another one, with its interval.

    Args:
        rows: name, difference and the ends of its interval, fractions; drawn from top to bottom.
    """
    names, centers, low, high = zip(*rows)
    lines = [textwrap.wrap(name, NAME_WIDTH) for name in names]
    longest = max(len(line) for wrapped in lines for line in wrapped)
    height = 1.6 + len(rows) * max(0.34, 0.19 * max(map(len, lines)))
    figure = Figure(figsize=(5 + 0.075 * longest, height), layout="constrained")
    axes = figure.subplots()
    places, points = range(len(rows)), 100 * np.array(centers)
    errors = [points - 100 * np.array(low), 100 * np.array(high) - points]
    axes.errorbar(points, places, xerr=errors, fmt="o", markersize=5, capsize=3, color=BLUE)
    axes.axvline(0, color=GRAY)
    axes.set_yticks(places, ["\n".join(wrapped) for wrapped in lines], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("difference of test accuracy, percentage points (95% interval)")
    simplify(axes, "x")
    save(figure, path, title)


def bars(
    frame: pd.DataFrame, path: Path, title: str = "", published: Mapping[tuple[str, str], float] | None = None
) -> None:
    """Draws the test accuracy of each model, on labels and from each teacher, as Ratusznik et al.'s figure 1.

    Models that are only teachers come last.

    Args:
        frame: as from `tables.rows`, of one data set and width.
        published: accuracies to mark, by the names of the model and its teachers ("" for labels).
    """
    published = published or {}
    table = tables.experiments(frame)
    teachers = {name for names in table["teachers"] for name in names.split("+") if name}
    teachers -= set(table.loc[table["teachers"] != "", "model"])
    models = sorted(dict.fromkeys(table["model"]), key=lambda model: model in teachers)
    sources = sorted(dict.fromkeys(table["trained_on"]), key=lambda name: not name.startswith("labels"))
    colors = {"labels": GRAY} | dict(zip((name for name in sources if name != "labels"), cycle(COLORS)))
    others = [name for name in colors if name != "labels"]
    hatches = {name: "//" * (i // len(COLORS)) for i, name in enumerate(others)}  # where colors repeat
    group_size = max(2, table.groupby("model").size().max())
    # The white background keeps the grid out of the number above a bar.
    background = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    above: dict[str, Any] = {
        "xytext": (0, 5 if published else 3),
        "textcoords": "offset points",
        "ha": "center",
        "fontsize": 9,
    }
    above |= {"bbox": background}

    entry = 1.5 + 0.065 * max(map(len, sources))  # inches of the longest in the legend
    inches = max(entry, 4.5 + 0.4 * (len(models) - 1) + 0.5 * (len(table) - 1))
    figure = Figure(figsize=(inches, 4.8), layout="constrained")
    axes = figure.subplots()
    half = 0.39 / group_size
    for place, model in enumerate(models):
        group = table[table["model"] == model]
        group = group.sort_values("trained_on", key=lambda names: names.map(sources.index))
        for i, row in enumerate(group.to_dict("records")):
            x = place + (i - (len(group) - 1) / 2) * 0.84 / group_size
            name = row["trained_on"]
            axes.bar(x, row["test_accuracy"], 2 * half, color=colors[name], hatch=hatches.get(name))
            axes.vlines(x, row["low"], row["high"], color="black", linewidth=1.2)
            top = row["high"]
            if (value := published.get((row["model"], row["teachers"]))) is not None:
                axes.hlines(value, x - half, x + half, color="black", linestyles=(0, (1.5, 1)))
                top = max(top, value)
            axes.annotate(f"{100 * row['test_accuracy']:.1f}", (x, top), **above)
    for name in sources:
        axes.bar(0, 0, color=colors[name], hatch=hatches.get(name), label=_source_label(name, table))
    if published:
        axes.plot([], [], color="black", linestyle=(0, (1.5, 1)), label="published")

    ticks = [f"{model}\n(teacher)" if model in teachers else model for model in models]
    axes.set_xticks(range(len(models)), ticks, parse_math=False)
    axes.set_xlim(-0.55, len(models) - 0.45)
    axes.set_ylim(0, 1.08 * max(0.01, *table["high"], *table["test_accuracy"], *published.values()))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("test accuracy")
    axes.set_title(_error_bars(table["n"].min(), table["n"].max()), fontsize=9)
    simplify(axes)
    figure.legend(
        loc="outside lower center",
        ncols=min(len(sources) + bool(published), int(inches / entry)),
        frameon=False,
        fontsize=9,
    )
    save(figure, path, title)


def confusion(counts: pd.DataFrame, path: Path, title: str) -> None:
    """Draws the fraction of each true class (row) by predicted class (column).

    Args:
        counts: numbers of test images, (classes, classes).
    """
    classes = len(counts)
    few = classes <= MAX_NUMBERED_CLASSES
    numbers = counts.to_numpy(dtype=float)
    total = np.where(numbers.sum(axis=1) > 0, numbers.sum(axis=1), np.nan)
    fractions = numbers / total[:, np.newaxis]
    greatest = np.nanmax(fractions, initial=0.01)

    inches = 3 + 0.42 * classes if few else min(14, 4 + 0.1 * classes)
    figure = Figure(figsize=(inches + 0.8, inches), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=greatest)
    for (row, column), fraction in np.ndenumerate(fractions):
        if few and np.isfinite(fraction):
            color = "white" if fraction > greatest / 2 else "black" if fraction >= 0.005 else "#b0b0b0"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": color, "fontsize": 9}
            axes.text(column, row, f"{100 * fraction:.0f}", style)
    names = [str(name) for name in counts.columns]
    literal: dict[str, Any] = {"parse_math": False}  # a class may be called $5
    style = {"rotation": 45 if few else 90, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), names, **style, **literal)
    axes.set_yticks(range(classes), [str(name) for name in counts.index], **literal)
    axes.tick_params(labelsize=10 if few else 6, length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, **literal)
    bar = figure.colorbar(image, shrink=0.8, aspect=30, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("percent of the true class")
    bar.outline.set_visible(False)
    save(figure, path)


def wide_figure(inches: float = 10) -> Figure:
    """Returns a figure for panels side by side."""
    return Figure(figsize=(inches, 4), layout=ConstrainedLayoutEngine(wspace=0.06))


def simplify(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Removes the top and right spines and draws a light grid behind the data, at the ticks of one axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path, title: str = "") -> None:
    """Writes `figure` as a PNG file, with `title` above it.

    Raises:
        KappError: the file can't be written.
    """
    if title:
        figure.suptitle(title, parse_math=False)
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")


def _lines(axes: Axes, metrics: pd.DataFrame, quantity: str, has_validation: bool) -> None:
    """Training and validation `quantity` per epoch."""
    # A line through one point is invisible; markers on hundreds of points overlap.
    marker = "o" if len(metrics) <= 30 else ""
    for prefix, (label, color) in LINES.items():
        if prefix + quantity in metrics:
            label = label if has_validation or not prefix else TEST_LABEL
            style: dict[str, Any] = {"color": color, "marker": marker, "ms": 4, "label": label}
            axes.plot(metrics["epoch"], metrics[prefix + quantity], **style)
    if len(metrics) == 1:
        axes.set_xlim(metrics["epoch"].iloc[0] - 1, metrics["epoch"].iloc[0] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    if quantity != "loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if axes.lines:
        axes.legend(frameon=False)
    simplify(axes)


def _source_label(name: str, table: pd.DataFrame) -> str:
    """What a network learned from, in a legend: `name`, as in `trained_on`, of the experiments of `table`."""
    on_labels = "from scratch" if table["phase"].notna().any() else "on labels"
    label = name.replace("labels", on_labels, 1) if name.startswith("labels") else f"from {name}"
    return label.replace("$", r"\$")  # no formula


def _error_bars(least: int, most: int) -> str:
    if most == 1:
        return "error bars: 95% interval of the test images, one seed"
    if least > 1:
        return f"error bars: ± sample standard deviation, n up to {most}"
    return f"error bars: ± standard deviation where n > 1 (up to {most}), else 95% interval"
