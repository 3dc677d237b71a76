"""The report of a sweep, made from its folder alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kapp.reporting import sweep_figures, tables
from kapp.reporting.tables import percent, plain
from kapp.sweeps import Sweep, Trial, best
from kapp.words import duration

NOT_OF_INTEREST = ("out", "overwrite", "quick", "baseline", "baseline_epochs", "scratch", "scratch_epochs")


def sweep_page(sweep: Sweep) -> str:
    """The text of the sweep's report.md; draws its figures."""
    settings, trials = sweep.settings, sweep.trials()
    space, config = settings["space"], settings["config"]
    leader = best(trials)
    name = f"{config.get('model') or config.get('student')} on {_data(config)}"
    sweep_figures.progress(trials, sweep.figure("progress"), name)
    sweep_figures.by_value(trials, space, sweep.figure("by_value"), name)
    failed = [trial for trial in trials if trial.status == "failed"]
    ended = [trial for trial in trials if trial.place is not None]
    parts = [
        f"# Sweep of {settings['recipe']}: {name}",
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
            f"`kapp {settings['recipe']} --config` runs [best.json](best.json), which holds all settings.",
        ]
    parts += [
        "## The best so far",
        "![Score of each trial and the best so far](figures/progress.png)",
        "## How the score depends on each value",
        "Each dot is a trial, in which the other values differ as well.",
        "![Score by each searched value](figures/by_value.png)",
        "## Trials",
        _table(trials, space),
    ]
    if failed:
        parts += ["A failed trial counts as the worst: as much as guessing.", _failures(failed)]
    searched = {
        f"searched: {each['name']}": f"{each['low']:g} to {each['high']:g}" + (", logarithmic" * each["log"])
        for each in space
    }
    names = {each["name"] for each in space}
    kept = {key: value for key, value in config.items() if key not in (*names, *NOT_OF_INTEREST)}
    parts += [
        "## Settings",
        _pairs({"tuner": settings["tuner"], **searched, "parameters": settings["budget"], **kept}),
        "[sweep.json](sweep.json) holds them; each trial's are in [trials](trials). The same command goes on "
        "with an unfinished sweep; with more `--trials`, with a finished one.",
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


def _table(trials: Sequence[Trial], space: Sequence[Mapping]) -> str:
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
    ]
    return tables.markdown(frame.drop(columns=alike))


def _failures(failed: Sequence[Trial]) -> str:
    return tables.markdown(
        pd.DataFrame([{"trial": str(trial.number), "why it failed": trial.message or ""} for trial in failed])
    )


def _value(trial: Trial, name: str) -> str:
    """What the trial trained with: its config says more exactly than the proposal, of a default trial."""
    value = trial.config.get(name) if trial.default else trial.values.get(name)
    value = trial.values.get(name) if value is None else value
    return "" if value is None else f"{value:.3g}"


def _data(config: Mapping[str, Any]) -> str:
    return config["target"][0] if "target" in config else config["dataset"]


def _pairs(pairs: Mapping[str, Any]) -> str:
    known = [
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else plain(value))
        for name, value in pairs.items()
        if value not in (None, [], "")
    ]
    return tables.markdown(pd.DataFrame(known, columns=["", "value"]))
