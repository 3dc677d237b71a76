"""The report of a sweep, made from its folder alone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kapp import models
from kapp.files import replacing, write_text
from kapp.reporting import pages, sweep_figures, tables
from kapp.reporting.tables import percent, plain
from kapp.runs import Run
from kapp.sweeps import Sweep, Trial, best
from kapp.words import duration

NOT_OF_INTEREST = ("out", "overwrite", "quick", "baseline", "baseline_epochs", "scratch", "scratch_epochs")
TEACHERS_OWN = (
    "teacher_width",
    "teacher_epochs",
    "teacher_seed",
)  # of one that was trained before: its run's


def summary_page(sweep: Sweep, out: Path, title: str = "", note: str = "") -> str:
    """Write `out`/README.md over `sweep`, with rows.csv, the figures, and the records of its trials and of
    the best's run, and return it.

    Args:
        title: the page's; "" is that of the sweep.
        note: a paragraph below it, in the author's words.

    Raises:
        Failure: `out` can't be written.
    """
    record = sweep.copy_record(out)
    with replacing(out / "rows.csv") as partial:
        rows(record).to_csv(partial, index=False)
    if record.best_run is not None:
        (record.best_folder / "figures").mkdir(exist_ok=True)
        record.best_run.write_report(_run_page(record.best_run))
    text = sweep_page(record, title, note, rows_file="rows.csv")
    write_text(out / "README.md", text)
    return text


def rows(sweep: Sweep) -> pd.DataFrame:
    """One row per trial: what it trained with, how it went and its score, a fraction."""
    names = [each["name"] for each in sweep.settings["space"]]
    return pd.DataFrame(
        [
            {
                "trial": trial.number,
                "default": trial.default,
                "status": trial.status,
                "val_accuracy": trial.score,
                "best_epoch": trial.best_epoch,
                "epochs": trial.epochs,
                "continues": trial.run if trial.run != trial.number else None,
                **{name: _trained_with(trial, name) for name in names},
                "network": trial.network,
                "parameters": trial.parameters,
                "place": trial.place,
                "seconds": trial.seconds,
                "ended_after": trial.told,
                "worker": trial.worker,
                "message": trial.message,
            }
            for trial in sweep.trials()
        ]
    )


def sweep_page(sweep: Sweep, title: str = "", note: str = "", rows_file: str | None = None) -> str:
    """The text of the sweep's report; draws its figures.

    Args:
        title: its title; "" is what was searched.
        note: a paragraph below it.
        rows_file: what holds a row a trial, of a sweep that is done with.
    """
    settings, trials = sweep.settings, sweep.trials()
    space, config = settings["space"], settings["config"]
    leader = best(trials)
    name = f"{config.get('model') or config.get('student')} on {_data(config)}"
    sweep_figures.progress(trials, config["epochs"], sweep.figure("progress"), name)
    sweep_figures.by_value(trials, space, config["epochs"], sweep.figure("by_value"), name)
    several = len({trial.worker for trial in trials if trial.told is not None}) > 1
    if several:
        sweep_figures.workers(trials, sweep.figure("workers"), name)
    failed = [trial for trial in trials if trial.status == "failed"]
    ended = [trial for trial in trials if trial.place is not None]
    parts = [
        f"# {title or 'Sweep of ' + settings['recipe'] + ': ' + name}",
        *([note] if note else []),
        _headline(sweep, trials, leader),
        f"{len(ended)} trials ended, {len(failed)} of them failed, in "
        f"{duration(max((trial.told or 0.0 for trial in ended), default=0.0))}; "
        f"{duration(sum(trial.seconds or 0.0 for trial in trials))} of training. Trials are scored on "
        "validation images alone. The best of many scores is in part a lucky one, and the more trials, the "
        "luckier: what to expect of its settings is the test accuracy, scored once.",
    ]
    if leader is not None:
        parts += [
            "## The best",
            _best(leader, trials, space),
            *([] if leader.default else _at_an_end(leader, space)),
            f"`kapp {settings['recipe']} --config` runs [best.json](best.json), which holds all settings.",
        ]
    parts += [
        "## The best so far",
        "![Score of each trial and the best so far](figures/progress.png)",
        "## How the score depends on each value",
        "Each dot is a trial, in which the other values differ as well." + _off_the_scale(trials, space),
        "![Score by each searched value](figures/by_value.png)",
        "## Trials",
        _table(trials, space, config["epochs"]),
    ]
    if several:
        parts += ["## Who trained which trial when", "![Trials by worker](figures/workers.png)"]
    if failed:
        parts += ["A failed trial counts as the worst: as much as guessing.", _failures(failed)]
    searched = {
        f"searched: {each['name']}": f"{each['low']:g} to {each['high']:g}" + (", logarithmic" * each["log"])
        for each in space
    }
    left_out = {each["name"] for each in space} | {*NOT_OF_INTEREST}
    if not {*config.get("teacher", ())} & {*models.names()}:
        left_out |= {*TEACHERS_OWN}
    kept = {key: value for key, value in config.items() if key not in left_out}
    files = "[sweep.json](sweep.json) holds them; each trial's are in [trials](trials). "
    if rows_file:
        files += (
            f"Every trial is a row of [{rows_file}]({rows_file}), too. From this folder, "
            "`kapp report --sweep` makes the page again."
        )
    else:
        files += (
            "The same command goes on with an unfinished sweep; with more `--trials`, with a finished one."
        )
    parts += [
        "## Settings",
        _pairs({"tuner": settings["tuner"], **searched, "parameters": settings["budget"], **kept}),
        files,
    ]
    return "\n\n".join(parts) + "\n"


def _headline(sweep: Sweep, trials: Sequence[Trial], leader: Trial | None) -> str:
    if leader is None or leader.score is None:
        return "No trial finished."
    words = [f"Trial {leader.number} is the best: {percent(leader.score)} of validation images"]
    default = next((t for t in trials if t.default and t.epochs == leader.epochs), None)
    if leader.default:
        words += ["it has the recipe's own settings, and nothing tried did better"]
    elif default is not None and default.score is not None:
        gain = 100 * (leader.score - default.score)
        words += [f"{gain:+.1f} points from the recipe's own settings ({percent(default.score)}, trial 0)"]
    elif default is not None:
        words += ["the recipe's own settings failed"]
    if sweep.best_run is not None:
        result = sweep.best_run.result
        test = tables.interval(result["test_accuracy"], *result["test_interval"])
        words += [f"of the test images it names {test} correctly ([its run](best/report.md))"]
    return "; ".join(words) + "."


def _best(leader: Trial, trials: Sequence[Trial], space: Sequence[Mapping]) -> str:
    columns = {"best": leader}
    default = next((trial for trial in trials if trial.default), None)
    if default is not None and default is not leader:
        columns["the recipe's own"] = default
    names = [each["name"] for each in space]
    rows = [
        {"": name.replace("_", " "), **{title: _value(trial, name) for title, trial in columns.items()}}
        for name in names
    ]
    rows += [{"": "network", **{title: trial.network or "" for title, trial in columns.items()}}]
    return tables.markdown(pd.DataFrame(rows))


def _at_an_end(leader: Trial, space: Sequence[Mapping]) -> list[str]:
    """Which of the best's values lie where the search could go no further."""
    names = [
        each["name"].replace("_", " ")
        for each in space
        if any(math.isclose(leader.values.get(each["name"], math.nan), each[end]) for end in ("low", "high"))
    ]
    if not names:
        return []
    return [
        f"At an end of what was searched: its {_listed(names)}. Where more is possible, a wider `--range` "
        "may hold better."
    ]


def _table(trials: Sequence[Trial], space: Sequence[Mapping], epochs: int) -> str:
    """Every trial, the best first; without what is alike for all, and epochs where all had `epochs`."""
    ranked = sorted(trials, key=lambda t: (t.status == "running", -(t.score or 0.0), t.number))
    rows = []
    for trial in ranked:
        score = percent(trial.score) if trial.score is not None else trial.status
        rows += [
            {
                "trial": f"{trial.number} (default)" if trial.default else str(trial.number),
                "score": score,
                "epochs": str(trial.epochs),
                "continues": str(trial.run) if trial.run != trial.number else "",
                **{each["name"]: _value(trial, each["name"]) for each in space},
                "network": trial.network or "",
                "parameters": tables.amount(trial.parameters) if trial.parameters else "",
                "seconds": f"{trial.seconds:.0f}" if trial.seconds is not None else "",
                "worker": trial.worker,
            }
        ]
    frame = pd.DataFrame(rows)
    alike = [
        name
        for name in ("epochs", "continues", "network", "parameters", "worker")
        if name in frame and frame[name].nunique() == 1
        if name != "epochs" or trials[0].epochs == epochs
    ]
    return tables.markdown(frame.drop(columns=alike))


def _failures(failed: Sequence[Trial]) -> str:
    return tables.markdown(
        pd.DataFrame([{"trial": str(trial.number), "why it failed": trial.message or ""} for trial in failed])
    )


def _value(trial: Trial, name: str) -> str:
    value = _trained_with(trial, name)
    return "" if value is None else f"{value:.3g}"


def _trained_with(trial: Trial, name: str) -> float | None:
    """What the trial trained with: its config says more exactly than the proposal, of a default trial."""
    value = trial.config.get(name) if trial.default else trial.values.get(name)
    return trial.values.get(name) if value is None else value


def _off_the_scale(trials: Sequence[Trial], space: Sequence[Mapping]) -> str:
    """Which of the default's values lie outside what was searched: the figure shows them at its edge."""
    default = next((trial for trial in trials if trial.default and trial.config), None)
    if default is None:
        return ""
    outside = [
        f"{each['name'].replace('_', ' ')} {_value(default, each['name'])}"
        for each in space
        if (value := _trained_with(default, each["name"])) is not None
        if not each["low"] <= value <= each["high"]
    ]
    return f" Drawn at the nearest end of the range: the default's {_listed(outside)}." if outside else ""


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _run_page(run: Run) -> str:
    """The page of the best's run, beside no other run."""
    match run.config["recipe"]:
        case "distill":
            return pages.distill_page(run, None, [])
        case "transfer":
            return pages.transfer_page(run, Run(run.phase1), None)
        case _:
            return pages.run_page(run)


def _data(config: Mapping[str, Any]) -> str:
    return config["target"][0] if "target" in config else config["dataset"]


def _pairs(pairs: Mapping[str, Any]) -> str:
    known = [
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else plain(value))
        for name, value in pairs.items()
        if value not in (None, [], "")
    ]
    return tables.markdown(pd.DataFrame(known, columns=["", "value"]))
