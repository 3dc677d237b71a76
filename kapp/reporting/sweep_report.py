"""The report of a sweep: its text and its figures, from the sweep's folder alone."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kapp import models, records
from kapp.fileio import atomic_file, make_folder, write_text
from kapp.progress import duration
from kapp.records import SearchRange, SweepConfig, Trial
from kapp.reporting import run_report, tables
from kapp.reporting.figures import BLUE, GRAY, ORANGE, save, simplify, wide_figure
from kapp.reporting.markdown import Block, Figure, Heading, Paragraph, Table, code, escape, to_markdown
from kapp.reporting.tables import format_si, percent
from kapp.sweep_folder import Sweep, best_trial

COLUMNS = 3  # of panels
NO_COLUMNS = ("values", "config", "sweep_sha256")  # of rows.csv
NOT_SHOWN = ("out", "overwrite", "baseline", "baseline_epochs", "scratch_baseline", "scratch_epochs")
TEACHER_SETTINGS = ("teacher_width", "teacher_epochs", "teacher_seed")  # of a teacher that the sweep trains


def write(sweep: Sweep) -> None:
    """Writes report.md in the sweep's folder, and its figures."""
    again = "The same command resumes an unfinished sweep, and a finished one with more `--trials`."
    sweep.write_report(to_markdown(_blocks(sweep, "", "", again)))


def write_summary(sweep: Sweep, out: Path, title: str = "", note: str = "") -> None:
    """Writes README.md over `sweep`, with rows.csv, figures, and copies of the trials and of the best run.

    Args:
        sweep: the sweep.
        out: the folder to write to.
        title: the page's title; "" names what was searched.
        note: a paragraph below the title, in the author's words.

    Raises:
        KappError: `out` can't be written.
    """
    copy = sweep.copy_results(out)
    with atomic_file(out / "rows.csv") as partial:
        rows(copy).to_csv(partial, index=False)
    if (run := copy.best_run) is not None:
        make_folder(run.folder / "figures")
        match run.config.recipe:
            case "distill":
                run_report.write_distillation(run, None, [])
            case "transfer" if (probe := run.probe) is not None:
                run_report.write_transfer(run, probe, None)
            case _:
                run_report.write(run)
    again = (
        "Every trial is also a row of [rows.csv](rows.csv). `kapp report --sweep` makes the page again from "
        "this folder."
    )
    write_text(out / "README.md", to_markdown(_blocks(copy, title, note, again)))


def rows(sweep: Sweep) -> pd.DataFrame:
    """Returns one row per trial: the fields of its record, and the values that it was trained with."""
    lines = []
    for trial in sweep.trials():
        fields = {key: value for key, value in vars(trial).items() if key not in NO_COLUMNS}
        lines += [fields | {each.name: trained_with(trial, each.name) for each in sweep.config.space}]
    return pd.DataFrame(lines)


def trained_with(trial: Trial, name: str) -> float | None:
    """Returns the value that the trial trained with; a default trial's is in its config, exactly."""
    value = trial.config.get(name) if trial.default else None
    return trial.values.get(name) if value is None else value  # type: ignore[return-value]


def _blocks(sweep: Sweep, title: str, note: str, again: str) -> list[Block]:
    config, trials = sweep.config, sweep.trials()
    best, epochs = best_trial(trials), _epochs(config)
    name = _name(config)
    draw_progress(trials, epochs, sweep.figure("progress"), name)
    draw_scores(trials, config.space, epochs, sweep.figure("by_value"), name)
    failed = [trial for trial in trials if trial.status == "failed"]
    blocks: list[Block] = [
        Heading(title or f"Sweep of {config.recipe}: {name}", 1),
        *([Paragraph(note)] if note else []),
        Paragraph(_headline(sweep, trials, best)),
        Paragraph(_effort(trials, failed)),
    ]
    if sweep.best_run is not None:
        sentences = run_report.overlap_sentences(sweep.best_run.result)
        blocks += [Paragraph(escape(sentences))] if sentences else []
    if best is not None:
        blocks += [Heading("The best"), _best(best, trials, config.space), *_at_limits(best, config.space)]
        command = code(f"kapp {config.recipe} --config")
        blocks += [Paragraph(f"{command} runs [best.json](best.json), which contains all settings.")]
    blocks += [
        Heading("Progress"),
        Figure("figures/progress.png", "Score of each trial and the best so far"),
        Heading("Score by each searched value"),
        Paragraph("Each point is a trial; the other values differ as well." + _outside(trials, config.space)),
        Figure("figures/by_value.png", "Score by each searched value"),
        Heading("Trials"),
        _trials(trials, config.space, epochs),
    ]
    if len({trial.worker for trial in trials if trial.ended_at is not None}) > 1:
        draw_workers(trials, sweep.figure("workers"), name)
        blocks += [Heading("Trials by worker"), Figure("figures/workers.png", "Trials by worker")]
    if failed:
        blocks += [
            Paragraph("The tuner scores a failed trial as random guessing."),
            Table([{"trial": str(each.number), "reason": each.message or ""} for each in failed]),
        ]
    files = "[sweep.json](sweep.json) contains them; each trial's are in [trials](trials)."
    return [*blocks, Heading("Settings"), _settings(config), Paragraph(f"{files} {again}")]


def _name(config: SweepConfig) -> str:
    settings = config.settings
    target = settings.get("target")
    dataset = target[0] if isinstance(target, list) and target else settings.get("dataset")
    return f"{settings.get('model') or settings.get('student')} on {dataset}"


def _epochs(config: SweepConfig) -> int:
    """Of a whole training."""
    return records.setting(config.settings, "epochs", int, "sweep.json")


def _headline(sweep: Sweep, trials: Sequence[Trial], best: Trial | None) -> str:
    if best is None or best.score is None:
        return "No trial finished."
    parts = [f"Trial {best.number} is the best: validation accuracy {percent(best.score)}"]
    default = next((t for t in trials if t.default and t.epochs == best.epochs), None)
    if best.default:
        parts += ["it has the recipe's own settings, and no other trial is better"]
    elif default is not None and default.score is not None:
        gain = f"{100 * (best.score - default.score):+.1f} points"
        parts += [f"{gain} compared with the recipe's own settings ({percent(default.score)}, trial 0)"]
    elif default is not None:
        parts += ["the recipe's own settings failed"]
    if sweep.best_run is not None:
        parts += [
            f"test accuracy {run_report.test_accuracy(sweep.best_run.result)} ([its run](best/report.md))"
        ]
    return "; ".join(parts) + "."


def _effort(trials: Sequence[Trial], failed: Sequence[Trial]) -> str:
    ended = [trial for trial in trials if trial.end_order is not None]
    return (
        f"{len(ended)} trials ended, {len(failed)} of them failed, in "
        f"{duration(max((trial.ended_at or 0.0 for trial in ended), default=0.0))}; "
        f"{duration(sum(trial.seconds or 0.0 for trial in trials))} of training. Trials are scored on "
        "validation images alone. The best of many scores is too high by chance, and more so with more "
        "trials: the unbiased estimate is the test accuracy, scored once."
    )


def _best(best: Trial, trials: Sequence[Trial], space: Sequence[SearchRange]) -> Table:
    columns = {"best": best}
    default = next((trial for trial in trials if trial.default), None)
    if default is not None and default is not best:
        columns["the recipe's own"] = default
    lines = [
        {"": _words(each.name), **{title: _value(trial, each.name) for title, trial in columns.items()}}
        for each in space
    ]
    lines += [{"": "network", **{title: trial.network or "" for title, trial in columns.items()}}]
    return Table(lines)


def _at_limits(best: Trial, space: Sequence[SearchRange]) -> list[Block]:
    """Which of the best's values lie at a limit of the searched range."""
    names = [
        _words(each.name)
        for each in space
        if any(math.isclose(best.values.get(each.name, math.nan), limit) for limit in (each.low, each.high))
    ]
    if best.default or not names:
        return []
    advice = "Where a wider `--search-range` is possible, it may contain better values."
    return [Paragraph(f"At a limit of the searched range: {_join(names)}. {advice}")]


def _trials(trials: Sequence[Trial], space: Sequence[SearchRange], epochs: int) -> Table:
    """Every trial, the best first, without columns in which all are equal."""
    ranked = sorted(trials, key=lambda t: (t.status == "running", -(t.score or 0.0), t.number))
    lines = [
        {
            "trial": f"{trial.number} (default)" if trial.default else str(trial.number),
            "score": percent(trial.score) if trial.score is not None else trial.status,
            "epochs": str(trial.epochs),
            "continues": str(trial.run) if trial.run != trial.number else "",
            **{each.name.replace("_", " "): _value(trial, each.name) for each in space},
            "network": trial.network or "",
            "parameters": format_si(trial.parameters) if trial.parameters else "",
            "seconds": f"{trial.seconds:.0f}" if trial.seconds is not None else "",
            "worker": trial.worker,
        }
        for trial in ranked
    ]
    equal = {
        name
        for name in ("epochs", "continues", "network", "parameters", "worker")
        if len({line[name] for line in lines}) == 1
        if name != "epochs" or trials[0].epochs == epochs
    }
    return Table([{name: cell for name, cell in line.items() if name not in equal} for line in lines])


def _outside(trials: Sequence[Trial], space: Sequence[SearchRange]) -> str:
    """Which of the default's values lie outside the searched range; figures show them at its limit."""
    default = next((trial for trial in trials if trial.default and trial.config), None)
    if default is None:
        return ""
    outside = [
        f"{_words(each.name)} {_value(default, each.name)}"
        for each in space
        if (value := trained_with(default, each.name)) is not None
        if not each.low <= value <= each.high
    ]
    return f" Drawn at the nearest limit of the range: the default's {_join(outside)}." if outside else ""


def _settings(config: SweepConfig) -> Table:
    left_out = {each.name for each in config.space} | {*NOT_SHOWN}
    teachers = config.settings.get("teacher") or []
    if not isinstance(teachers, list) or not {*teachers} & {*models.names()}:
        left_out |= {*TEACHER_SETTINGS}
    searched = {
        f"searched: {each.name}": f"{each.low:g} to {each.high:g}" + ", logarithmic" * each.log
        for each in config.space
    }
    kept = {name: value for name, value in config.settings.items() if name not in left_out}
    return tables.pairs({"tuner": config.tuner, **searched, "parameters": config.budget, **kept})


def _value(trial: Trial, name: str) -> str:
    value = trained_with(trial, name)
    return "" if value is None else f"{value:.3g}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def draw_progress(trials: Sequence[Trial], epochs: int, path: Path, title: str) -> None:
    """Draws each trial's score and the best so far, by the number of ended trials and by time.

    Args:
        trials: of a sweep.
        epochs: of a whole training; trials of fewer are drawn hollow.
        path: the PNG file to write.
        title: the figure's title.
    """
    ended = sorted((t for t in trials if t.end_order is not None), key=lambda t: t.end_order or 0)
    figure = wide_figure()
    left, right = figure.subplots(1, 2, sharey=True)
    unit, label = _time_unit(ended)
    best_so_far, reached = [], 0.0
    for trial in ended:
        reached = max(reached, trial.score or 0.0)
        best_so_far += [reached or math.nan]
    for axes, places in (
        (left, [(trial.end_order or 0) + 1.0 for trial in ended]),
        (right, [(trial.ended_at or 0) / unit for trial in ended]),
    ):
        _scatter(axes, places, ended, epochs)
        axes.step(places, best_so_far, where="post", color=ORANGE, lw=1.5, label="best so far")
        axes.tick_params(labelleft=True)
        _simplify(axes)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_xlabel("ended trials")
    right.set_xlabel(label)
    right.set_xlim(left=0)
    left.set_ylabel("validation accuracy")
    _legend(figure, left)
    save(figure, path, title)


def draw_scores(
    trials: Sequence[Trial], space: Sequence[SearchRange], epochs: int, path: Path, title: str
) -> None:
    """Draws the score by each searched value, one panel each; arguments as for `draw_progress`."""
    columns = min(COLUMNS, len(space))
    lines = math.ceil(len(space) / columns)
    figure = Canvas(figsize=(max(5.0, 3.6 * columns), 3.2 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, each in zip(panels.flat, space):
        tried = [t for t in trials if t.end_order is not None and each.name in t.values]
        _scatter(axes, [t.values[each.name] for t in tried], tried, epochs, best_trial(trials))
        _set_range(axes, each)
        axes.set_xlabel(_words(each.name))
        _simplify(axes)
    for axes in panels.flat[len(space) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("validation accuracy")
    _legend(figure, *panels.flat)
    save(figure, path, title)


def draw_workers(trials: Sequence[Trial], path: Path, title: str) -> None:
    """Draws which worker trained which trial when, one row per worker.

    A trial that moved to another worker is drawn where it ended.
    """
    ended = sorted((t for t in trials if t.ended_at is not None), key=lambda t: t.ended_at or 0)
    names = sorted({trial.worker for trial in ended})
    unit, label = _time_unit(ended)
    figure = Canvas(figsize=(10, 1.2 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    free_since = dict.fromkeys(names, 0.0)
    for trial in ended:
        end = trial.ended_at or 0.0
        start = max(trial.created_at, free_since[trial.worker])
        free_since[trial.worker] = end
        row, color = names.index(trial.worker), GRAY if trial.status == "failed" else BLUE
        axes.barh(row, (end - start) / unit, left=start / unit, height=0.8, color=color, edgecolor="white")
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": "white", "size": 9}
        axes.text((start + end) / 2 / unit, row, str(trial.number), **style)
    axes.set_yticks(range(len(names)), [f"worker {name}" for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path, title)


def _time_unit(ended: Sequence[Trial]) -> tuple[int, str]:
    """The unit of an axis of time in seconds, and the label of that axis."""
    is_short = max((trial.ended_at or 0 for trial in ended), default=0) < 2 * 3600
    return (60, "minutes since the start") if is_short else (3600, "hours since the start")


def _set_range(axes: Axes, searched: SearchRange) -> None:
    """Show the whole searched range, with a small margin."""
    low, high = searched.low, searched.high
    if searched.log:
        axes.set_xscale("log")
        margin = (high / low) ** 0.05
        axes.set_xlim(low / margin, high * margin)
        if high / low < 50:  # too few decades for ticks at powers of ten alone
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if searched.integer:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _scatter(
    axes: Axes, places: Sequence[float], trials: Sequence[Trial], epochs: int, best: Trial | None = None
) -> None:
    """Trials as points, hollow where they were stopped early; failed ones as crosses at the bottom."""
    styles: dict[str, dict[str, Any]] = {
        "trial": {"color": BLUE},
        "trial, stopped early": {"facecolors": "none", "edgecolors": BLUE},
        "default": {"color": "black", "marker": "D", "zorder": 3},
        "best": {"color": ORANGE, "marker": "*", "s": 130, "zorder": 4},
        "best, default": {"color": ORANGE, "edgecolors": "black", "marker": "*", "s": 130},
        "failed": {"color": GRAY, "marker": "x", "zorder": 3, "clip_on": False},
    }
    kinds = [_kind(trial, epochs, best) for trial in trials]
    for label, style in styles.items():
        chosen = [(x, trial.score or 0.0) for x, trial, kind in zip(places, trials, kinds) if kind == label]
        if chosen:
            # Crosses are at the bottom of the panel, whatever the range of the scores.
            transform = axes.get_xaxis_transform() if label == "failed" else axes.transData
            axes.scatter(*zip(*chosen), label=label, transform=transform, **{"s": 30, **style})


def _kind(trial: Trial, epochs: int, best: Trial | None) -> str:
    if trial.score is None:
        return "failed"
    if trial is best:
        return "best, default" if trial.default else "best"
    if trial.default:
        return "default"
    return "trial" if trial.epochs == epochs else "trial, stopped early"


def _legend(figure: Canvas, *panels: Axes) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles))
    if entries:
        style: dict[str, Any] = {"loc": "outside lower center", "ncols": len(entries), "frameon": False}
        figure.legend(entries.values(), entries.keys(), **style)


def _simplify(axes: Axes) -> None:
    simplify(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:.4g}%"))
