"""The figures of the page, as PNG files."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from kapp.reporting.figures import BLUE, COLORS, GRAY, ORANGE, save


def speedups(bars: Sequence[tuple[str, np.ndarray, float]], path: Path) -> None:
    """Draw horizontal bars: a label, the speedups of all repetitions and their target."""
    figure = Figure(figsize=(10, 1.2 + 0.62 * len(bars)), layout="constrained")
    axes = figure.subplots()
    for y, (_, speedup, target) in enumerate(bars):
        low, median, high = np.quantile(speedup, (0, 0.5, 1))
        error = [[median - low], [high - median]]
        color = BLUE if median >= target else ORANGE
        axes.barh(y, median, 0.6, color=color, xerr=error, ecolor="black", capsize=3)
        axes.plot([target, target], [y - 0.42, y + 0.42], color="black", lw=2)
        axes.text(max(high, target) * 1.07, y, f"{median:.2f}x of {target:g}x", va="center", fontsize=9)
    values = [value for _, speedup, target in bars for value in (*speedup, target)]
    axes.set(xscale="log", xlim=(min(0.5, *values) / 1.3, max(values) * 3.5))
    axes.xaxis.set(major_locator=LogLocator(10, (1, 2, 5)), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.axvline(1, color=GRAY, lw=0.8, zorder=0)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("speedup (black: target; blue: reached)")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def times_to_accuracy(
    curves: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    targets: Sequence[float],
    title: str,
    path: Path,
) -> None:
    """Draw the best validation accuracy so far by the minutes since the start: of each training, the name of
    its group, its command, and its points."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for color, (group, command, points) in zip(COLORS, curves):
        minutes, accuracies = zip(*points)
        epochs = command.partition("--epochs ")[2].split()[0]
        axes.plot(
            minutes, accuracies, color=color, marker="o", markersize=3, label=f"{group}, {epochs} epochs"
        )
    for target in targets:
        axes.axhline(target, color=GRAY, lw=0.8, zorder=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="minutes since the start", ylabel="best validation accuracy", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    save(figure, path, title)


def scaling(
    costs: Sequence[tuple[str, float, np.ndarray]], title: str, quantity: str, unit: str, path: Path
) -> None:
    """Draw curves on logarithmic axes: the name of the curve, x, and the costs of all repetitions."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for color, (name, points) in zip(COLORS, groupby(costs, lambda cost: cost[0])):
        _, x, values = zip(*points)
        low, median, high = np.quantile(np.array(values), (0, 0.5, 1), axis=1)
        error = (median - low, high - median)
        axes.errorbar(x, median, error, color=color, marker="o", capsize=3, label=name)
    ticks = sorted({x for _, x, _ in costs})
    label = {"s": "seconds", "images/s": "images per second"}[unit]
    axes.set(xscale="log", yscale="log", xlabel=quantity, ylabel=label)
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set(major_locator=LogLocator(10, (1, 2, 5)), minor_formatter=NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len({name for name, _, _ in costs}) > 1:
        axes.legend(frameon=False)
    save(figure, path, title)
