"""The trials of a sweep as PNG files: the best so far, and the score by each value that was searched."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kapp.files import replacing
from kapp.reporting.figures import COLOURS, DPI, GREY
from kapp.sweeps import Trial, best

BLUE, ORANGE = COLOURS[0], COLOURS[5]
COLUMNS = 3


def progress(trials: Sequence[Trial], epochs: int, path: Path, title: str) -> None:
    """Each trial's score and the best so far, by how many trials had ended and by the time that took.

    Args:
        epochs: of a whole training; trials of fewer are drawn hollow.
    """
    ended = sorted((trial for trial in trials if trial.place is not None), key=lambda trial: trial.place or 0)
    figure = Figure(figsize=(10, 4), layout=ConstrainedLayoutEngine(wspace=0.06))
    left, right = figure.subplots(1, 2, sharey=True)
    unit, clock = _clock(ended)
    for axes, places in (
        (left, [(trial.place or 0) + 1 for trial in ended]),
        (right, [(trial.told or 0) / unit for trial in ended]),
    ):
        _points(axes, places, ended, epochs)
        reached, so_far = 0.0, []
        for trial in ended:
            reached = max(reached, trial.score or 0.0)
            so_far += [reached or math.nan]
        axes.step(places, so_far, where="post", color=ORANGE, lw=1.5, label="best so far")
        axes.tick_params(labelleft=True)
        _plain(axes)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_xlabel("trials ended")
    right.set_xlabel(clock)
    right.set_xlim(left=0)
    left.set_ylabel("validation accuracy")
    _legend(figure, left)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def by_value(
    trials: Sequence[Trial], space: Sequence[Mapping[str, Any]], epochs: int, path: Path, title: str
) -> None:
    """The score by each value that was searched, one panel a value.

    Args:
        space: each with its `name`, and `log` where its axis is logarithmic.
    """
    columns = min(COLUMNS, len(space))
    rows = math.ceil(len(space) / columns)
    figure = Figure(figsize=(max(5.0, 3.6 * columns), 3.2 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, each in zip(panels.flat, space):
        tried = [t for t in trials if t.place is not None and each["name"] in t.values]
        _points(axes, [t.values[each["name"]] for t in tried], tried, epochs, best(trials))
        _scale(axes, each)
        axes.set_xlabel(each["name"].replace("_", " "))
        _plain(axes)
    for axes in panels.flat[len(space) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("validation accuracy")
    _legend(figure, *panels.flat)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def workers(trials: Sequence[Trial], path: Path, title: str) -> None:
    """Which worker had which trial when, one row a worker; a trial that was taken back from another is drawn
    where it ended."""
    ended = sorted((trial for trial in trials if trial.told is not None), key=lambda trial: trial.told or 0)
    names = sorted({trial.worker for trial in ended})
    unit, clock = _clock(ended)
    figure = Figure(figsize=(10, 1.2 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    free = dict.fromkeys(names, 0.0)  # since when
    for trial in ended:
        begun, told = max(trial.asked, free[trial.worker]) / unit, (trial.told or 0) / unit
        free[trial.worker] = trial.told or 0
        row, colour = names.index(trial.worker), GREY if trial.status == "failed" else BLUE
        axes.barh(row, told - begun, left=begun, height=0.8, color=colour, edgecolor="white")
        axes.text((begun + told) / 2, row, str(trial.number), ha="center", va="center", color="white", size=9)
    axes.set_yticks(range(len(names)), [f"worker {name}" for name in names])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(clock)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def _clock(ended: Sequence[Trial]) -> tuple[int, str]:
    """In which unit to show when trials ended: its seconds, and what to write beside it."""
    minutes = max((trial.told or 0 for trial in ended), default=0) < 2 * 3600
    return (60, "minutes of search") if minutes else (3600, "hours of search")


def _scale(axes: Axes, searched: Mapping[str, Any]) -> None:
    """The whole range that was searched, with a little room on both sides."""
    low, high = searched["low"], searched["high"]
    if searched["log"]:
        axes.set_xscale("log")
        room = (high / low) ** 0.05
        axes.set_xlim(low / room, high * room)
        if high / low < 50:  # too few decades for ticks at them alone
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if searched["whole"]:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _points(
    axes: Axes, places: Sequence[float], trials: Sequence[Trial], epochs: int, leader: Trial | None = None
) -> None:
    """Trials as dots, hollow where they weren't trained to the end; failed ones as crosses at the foot."""
    kinds: dict[str, tuple[list[float], list[float], dict[str, Any]]] = {
        "trial": ([], [], {"color": BLUE}),
        "trial, not trained to its end": ([], [], {"facecolors": "none", "edgecolors": BLUE}),
        "the default": ([], [], {"color": "black", "marker": "D", "zorder": 3}),
        "best": ([], [], {"color": ORANGE, "marker": "*", "s": 130, "zorder": 4}),
        "best, the default": ([], [], {"color": ORANGE, "edgecolors": "black", "marker": "*", "s": 130}),
        "failed": ([], [], {"color": GREY, "marker": "x", "zorder": 3, "clip_on": False}),
    }
    for place, trial in zip(places, trials):
        if trial.score is None:
            kind = "failed"
        elif trial is leader:
            kind = "best, the default" if trial.default else "best"
        elif trial.default:
            kind = "the default"
        else:
            kind = "trial" if trial.epochs == epochs else "trial, not trained to its end"
        kinds[kind][0].append(place)
        kinds[kind][1].append(0.0 if trial.score is None else trial.score)
    for label, (x, y, how) in kinds.items():
        if not x:
            continue
        # At the foot of the panel, wherever the scores begin.
        transform = axes.get_xaxis_transform() if label == "failed" else axes.transData
        axes.scatter(x, y, label=label, transform=transform, **{"s": 30, **how})


def _legend(figure: Figure, *panels: Axes) -> None:
    known: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        known |= dict(zip(labels, handles))
    if known:
        figure.legend(
            known.values(), known.keys(), loc="outside lower center", ncols=len(known), frameon=False
        )


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
