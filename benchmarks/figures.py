"""What was measured as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.duel import Spread
from kapp.files import replacing
from kapp.reporting.figures import COLOURS, DPI, GREY

Curves = dict[str, list[tuple[float, Spread]]]


def ratios(bars: Sequence[tuple[str, Spread, float]], path: Path) -> None:
    """How many times as fast, by row, beside what was to be reached.

    Args:
        bars: words, ratio, reach.
    """
    figure = Figure(figsize=(10, 1.2 + 0.62 * len(bars)), layout="constrained")
    axes = figure.subplots()
    for place, (_, ratio, reach) in enumerate(bars):
        colour = COLOURS[0] if ratio.median >= reach else COLOURS[5]
        error = [[ratio.median - ratio.least], [ratio.most - ratio.median]]
        axes.barh(place, ratio.median, 0.6, color=colour, xerr=error, ecolor="black", capsize=3)
        axes.plot([reach, reach], [place - 0.42, place + 0.42], color="black", lw=2)
        axes.annotate(
            f"{ratio.median:.2f}x of {reach:g}x",
            (max(ratio.most, reach), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_xscale("log")
    everything = [value for _, ratio, reach in bars for value in (*ratio, reach)]
    axes.set_xlim(min(0.5, *everything) / 1.3, max(everything) * 3.5)
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.axvline(1, color=GREY, lw=0.8, zorder=0)
    axes.set_yticks(range(len(bars)), [words for words, _, _ in bars], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast (black: to be reached; blue: reached)")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def growth(
    curves: Mapping[str, Sequence[tuple[float, Spread]]], title: str, quantity: str, cost: str, path: Path
) -> None:
    """A cost by a quantity, both on logarithmic axes, with the least and the most of each point."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for colour, (name, points) in zip(COLOURS, curves.items()):
        places = [at for at, _ in points]
        its = [each for _, each in points]
        error = [
            [each.median - each.least for each in its],
            [each.most - each.median for each in its],
        ]
        axes.errorbar(
            places, [each.median for each in its], error, color=colour, marker="o", capsize=3, label=name
        )
    ticks = sorted({at for points in curves.values() for at, _ in points})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel(quantity)
    axes.set_ylabel({"s": "seconds", "images/s": "images per second"}[cost])
    axes.set_title(title, fontsize=11)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
