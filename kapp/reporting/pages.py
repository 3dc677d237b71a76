"""Run folders become the pages that people read, with their figures.

`run_page` and `distill_page` draw into the run's figures/ and return the text of its report.md;
`summary_page` writes a folder of its own over many runs.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kapp.errors import WrongValue
from kapp.files import make_folder, replacing, write_text
from kapp.reporting import figures, tables
from kapp.reporting.tables import plain
from kapp.runs import Run

CIRCUMSTANCES = "dataset width epochs seed device backend precision commit".split()


def run_page(run: Run) -> str:
    """The report of one network trained on labels; draws its curves and confusion matrix."""
    result = run.result
    name = f"{result['model']} on {result['dataset']}"
    if "phase" in result:
        name += f", {result['phase']} from {result['source']}"
    figures.curves(run.metrics(), run.figure("curves"), name, _selected(result))
    figures.confusion(run.confusion(), run.figure("confusion"), f"{name}: test images")
    return _page(
        f"# {name}",
        f"{result['model']}, {tables.amount(result['parameters'])} parameters, names "
        f"{_test(result)} of {result['test_images']:,} test images correctly after "
        f"{result['epochs']} epochs on labels.",
        _selection(result),
        "## Results",
        _results(result),
        "## Training",
        _image("Loss and accuracy by epoch", "figures/curves.png"),
        "## Which classes are taken for which",
        _image("Confusion matrix", "figures/confusion.png"),
        *_settings(run),
    )


def distill_page(run: Run, baseline: Run | None, teachers: Sequence[Run]) -> str:
    """The report of one distillation; draws paper D's figures 1 to 3 and the confusion matrix.

    Args:
        run: the distilled student.
        baseline: the same student trained on labels, where there is one.
        teachers: those of the teachers that have a run; a .keras file has none.
    """
    result = run.result
    runs = [*([baseline] if baseline else []), run, *teachers]
    frame = tables.rows([each.folder for each in runs])
    source = " + ".join(result["teachers"])
    name = f"{result['model']} from {source}"
    figures.bars(frame, run.figure("accuracies"), result["dataset"])
    figures.confusion(run.confusion(), run.figure("confusion"), f"{name}: test images")
    teaching = [f"teacher {each.result['model']} {_test(each.result)}" for each in teachers]
    return _page(
        f"# {name}, on {result['dataset']}",
        "; ".join([_headline(run, baseline), *teaching]) + ".",
        *([_verdict(run, baseline)] if baseline else []),
        _selection(result),
        "## Comparison",
        tables.comparison(frame),
        _image("Test accuracies, as in paper D's figure 1", "figures/accuracies.png"),
        "## Training",
        *_learning(run, baseline),
        "## Results of the student",
        _results(result),
        "## Which classes are taken for which",
        _image("Confusion matrix", "figures/confusion.png"),
        *_settings(run),
        "## The runs",
        "\n".join(f"- {_words(each)}: {_link(each, run.folder)}" for each in runs),
    )


def transfer_page(run: Run, phase1: Run, scratch: Run | None) -> str:
    """The report of one transfer; draws paper A's figures 1 to 3 and the confusion matrix.

    Args:
        run: of phase 2, whose report it is.
        phase1: of phase 1.
        scratch: the same network trained on the target alone, where there is one.
    """
    result = run.result
    runs = [*([scratch] if scratch else []), phase1, run]
    name = f"{result['model']} from {result['source']} to {result['dataset']}"
    _draw_phases(run, phase1, scratch, run.figure("phases"))
    figures.confusion(run.confusion(), run.figure("confusion"), f"{name}: test images")
    shown = [f"{words} {_test(each.result)}" for words, each in zip(_phase_words(runs), runs)]
    return _page(
        f"# {name}",
        f"Test accuracy, n = 1 seed each: {'; '.join(shown)}.",
        *([_gain(run, scratch)] if scratch else []),
        _selection(result),
        "## Comparison",
        "As paper A's table 4:",
        tables.comparison(tables.rows([each.folder for each in runs])),
        "## Training",
        _image("Accuracy by epoch of each phase, as in paper A's figures 1 to 3", "figures/phases.png"),
        *([_pace(runs)] if scratch and _selected(result) else []),
        "## Results of phase 2",
        _results(result),
        "## Which classes are taken for which",
        _image("Confusion matrix", "figures/confusion.png"),
        *_settings(run),
        "## The runs",
        "\n".join(f"- {_words(each)}: {_link(each, run.folder)}" for each in runs),
    )


def summary_page(runs: Iterable[Run], out: Path, title: str = "Results", note: str = "") -> str:
    """Write `out`/README.md over the finished `runs`, with rows.csv, figures/ and runs/, and return it.

    Args:
        title: the page's.
        note: a paragraph below it, in the author's words.

    Raises:
        WrongValue: none of the runs is finished.
        Failure: `out` can't be written.
    """
    runs = [run for run in runs if run.finished]
    if not runs:
        raise WrongValue("no finished run to report on. Give run folders that hold a result.json.")
    frame = tables.rows([run.folder for run in runs])
    make_folder(out / "figures")
    with replacing(out / "rows.csv") as partial:
        frame.to_csv(partial, index=False)
    for run in runs:
        run.copy_record(out / "runs" / run.name)

    drawn = []
    for place, group in _comparable(frame):
        name = _file_name("accuracies", *place)
        figures.bars(group, out / "figures" / name, ", width ".join(place))
        drawn += [_image(f"Test accuracies on {', width '.join(place)}", f"figures/{name}")]
    for name, distilled, labels in _pairs(runs):
        for quantity in ("loss", "accuracy"):
            link = f"figures/{quantity}-{name}"
            _paired(distilled, labels, quantity, out / link)
            drawn += [_image(f"{quantity.capitalize()} of {_words(distilled)}", link)]
    for name, whole, phase1, scratch in _transfers(runs):
        link = f"figures/phases-{name}"
        _draw_phases(whole, phase1, scratch, out / link)
        drawn += [_image(f"Accuracy of {_words(whole)} and before", link)]

    page = _page(
        f"# {title}",
        *([note] if note else []),
        f"{len(frame)} finished runs. Networks and epochs were chosen on validation images; the test "
        "images were scored once, at the end of each run. Intervals are Wilson's, over test images.",
        tables.comparison(frame),
        *drawn,
        "## Settings",
        _pairs_table({name: _values(frame[name]) for name in CIRCUMSTANCES}),
        "Every run is a row of [rows.csv](rows.csv), with its settings, and a folder in [runs](runs), with "
        "its epochs, environment and confusion matrix. From those, `kapp report` makes this page again.",
    )
    write_text(out / "README.md", page)
    return page


def _headline(run: Run, baseline: Run | None) -> str:
    result = run.result
    lead = f"{result['model']} learned from {' + '.join(result['teachers'])}: "
    after = tables.percent(result["test_accuracy"])
    if baseline is None:
        return f"{lead}{_test(result)} distilled (n = 1 seed; no run on labels to compare with)"
    before = baseline.result["test_accuracy"]
    gain = 100 * (result["test_accuracy"] - before)
    return (
        f"{lead}{tables.percent(before)} on labels, {after} distilled ({gain:+.1f} points, n = 1 seed each)"
    )


def _verdict(run: Run, baseline: Run) -> str:
    """What may be concluded from two single runs: little, and said so."""
    taught, labels = run.result, baseline.result
    sentences = _compared("Distillation", taught, labels)
    changed = [
        f"{key.replace('_', ' ')} ({_said(labels[key])} on labels, {_said(taught[key])} distilled)"
        for key in tables.TRAINING
        if key in labels and key in taught and labels[key] != taught[key]
    ]
    if changed:
        sentences += [f"Beside the teaching, the two runs differ in {', '.join(changed)}."]
    return " ".join(sentences)


def _said(value: Any) -> str:
    return ", ".join(map(plain, value)) or "none" if isinstance(value, list) else plain(value)


def _gain(run: Run, scratch: Run) -> str:
    """The same of phase 2 and the network from scratch."""
    after, before = run.result, scratch.result
    gain = 100 * (after["test_accuracy"] - before["test_accuracy"])
    return " ".join(
        [
            f"Phase 2 is {gain:+.1f} points from training on {after['dataset']} alone "
            f"({before['epochs']} epochs).",
            *_compared("Transfer", after, before),
        ]
    )


def _compared(what: str, after: dict, before: dict) -> list[str]:
    (low, high), (low_before, high_before) = after["test_interval"], before["test_interval"]
    sentences = []
    if after["test_accuracy"] <= before["test_accuracy"]:
        sentences += [f"{what} did not help here."]
    if low <= high_before and low_before <= high:
        sentences += ["The 95% intervals overlap: these test images alone do not tell the two apart."]
    else:
        sentences += ["The 95% intervals do not overlap."]
    return [
        *sentences,
        "They count the luck of the test images, not of the seed: one seed each cannot settle it.",
    ]


def _pace(runs: Sequence[Run]) -> str:
    """When each phase first did as well on validation images as the network from scratch ever did."""
    scratch, *phases = runs
    goal = scratch.result["val_accuracy"]
    sentences = [f"From scratch the best validation accuracy was {tables.percent(goal)}."]
    for words, phase in zip(("Phase 1", "Phase 2"), phases):
        reached = [row["epoch"] for row in phase.epochs() if row["val_accuracy"] >= goal]
        sentences += [
            f"{words} had it after epoch {reached[0]:.4g}." if reached else f"{words} never had it."
        ]
    return " ".join(sentences)


def _draw_phases(run: Run, phase1: Run, scratch: Run | None, path: Path) -> None:
    result = run.result
    parts = [("phase 1: head on frozen features", phase1), ("phase 2: the whole", run)]
    parts += [("from scratch", scratch)] if scratch else []
    title = f"{result['model']} from {result['source']} to {result['dataset']}"
    measured = [(words, each.metrics()) for words, each in parts]
    figures.phases(measured, path, title, _selected(result))


def _phase_words(runs: Sequence[Run]) -> list[str]:
    return [each.result.get("phase", "from scratch") for each in runs]


def _transfers(runs: Sequence[Run]) -> list[tuple[str, Run, Run, Run | None]]:
    """For each transfer, of the seed seen first: a file name, phase 2, phase 1, the network from scratch."""
    found: dict[str, dict[str, Run]] = {}
    scratch: dict[str, Run] = {}
    for run in runs:
        result = run.result
        if "phase" in result:
            name = _file_name(result["model"], result["source"], result["dataset"], result["head"])
            found.setdefault(name, {}).setdefault(result["phase"], run)
        elif not result["teachers"]:
            scratch.setdefault(_file_name(result["model"], result["dataset"]), run)
    return [
        (
            name,
            phases["phase 2"],
            phases["phase 1"],
            scratch.get(_file_name(*(phases["phase 2"].result[key] for key in ("model", "dataset")))),
        )
        for name, phases in found.items()
        if len(phases) == 2
    ]


def _learning(run: Run, baseline: Run | None) -> list[str]:
    """Paper D's figures 2 and 3, or the student's own curves where there is nothing beside it."""
    if baseline is None:
        figures.curves(run.metrics(), run.figure("curves"), _words(run))
        return [_image("Loss and accuracy by epoch", "figures/curves.png")]
    for quantity in ("loss", "accuracy"):
        _paired(run, baseline, quantity, run.figure(quantity))
    return [
        _image("Loss distilled (left) and on labels, paper D's figure 2", "figures/loss.png"),
        "The two losses have different units: compare their shapes, not their heights.",
        _image("Accuracy distilled (left) and on labels, paper D's figure 3", "figures/accuracy.png"),
    ]


def _paired(distilled: Run, labels: Run, quantity: str, path: Path) -> None:
    objective = distilled.result["objective"]
    titles = (f"from {' + '.join(distilled.result['teachers'])} ({objective})", "on labels (cross-entropy)")
    left, right = distilled.metrics(), labels.metrics()
    figures.paired_curves(left, right, quantity, path, titles, distilled.result["model"])


def _comparable(frame: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Rows for one figure of bars: of a data set and, where a network comes in several widths, of a width."""
    for dataset, rows in frame.groupby("dataset", dropna=False, sort=False):
        if rows.groupby("model")["width"].nunique().max() == 1:
            yield [str(dataset)], rows
            continue
        for width, group in rows.groupby("width", dropna=False, sort=False):
            yield [str(dataset), plain(width)], group


def _pairs(runs: Sequence[Run]) -> list[tuple[str, Run, Run]]:
    """For each model and teaching: a file name, its first run and the model's first on labels."""
    on_labels: dict[str, Run] = {}
    distilled: dict[str, tuple[str, Run]] = {}
    for run in runs:
        result = run.result
        place = [result["model"], result["dataset"], plain(result["width"])]
        if "phase" in result:
            continue
        if result["teachers"]:
            name = _file_name(*place, *result["teachers"], result["objective"])
            distilled.setdefault(name, (_file_name(*place), run))
        else:
            on_labels.setdefault(_file_name(*place), run)
    return [(name, run, on_labels[place]) for name, (place, run) in distilled.items() if place in on_labels]


def _settings(run: Run) -> list[str]:
    config = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else plain(value)
        for name, value in run.config.items()
    }
    noted = ("precision", "backend", "device", "commit")
    ran = {key: plain(run.result.get(key)) for key in noted}
    return [
        "## Settings",
        _pairs_table({**config, **ran}),
        "[config.json](config.json) holds all of them; the same command with the same settings runs it "
        "again. [environment.json](environment.json) tells versions and data, "
        "[metrics.csv](metrics.csv) every epoch.",
    ]


def _results(result: dict) -> str:
    return _pairs_table(
        {
            "test accuracy (95% interval)": _test(result),
            "validation accuracy": tables.percent(result["val_accuracy"]) if _selected(result) else "",
            "test loss (cross-entropy, nats)": f"{result['test_loss']:.3f}",
            "expected calibration error": f"{result['calibration_error']:.3f}",
            "training, images per second": f"{result['train_images_per_second']:,.0f}",
            "minutes in all": f"{result['seconds'] / 60:.1f}",
        }
    )


def _selected(result: dict) -> bool:
    """Whether images were held out to select by."""
    return result["validation_images"] > 0


def _selection(result: dict) -> str:
    if not _selected(result):
        return (
            f"The network is that of the last epoch, {result['epochs']}: no image was held out to select by. "
            "The test images were watched on the way, as paper A does, and chose nothing."
        )
    return (
        f"The network is that of epoch {result['best_epoch']} of {result['epochs']}, the best on "
        "validation images; the test images were scored once, at the end."
    )


def _test(result: dict) -> str:
    return tables.interval(result["test_accuracy"], *result["test_interval"])


def _words(run: Run) -> str:
    result = run.result
    if "phase" in result:
        return f"{result['model']} from {result['source']} to {result['dataset']}, {result['phase']}"
    if not result["teachers"]:
        return f"{result['model']} on labels"
    return f"{result['model']} from {' + '.join(result['teachers'])} ({result['objective']})"


def _values(column: pd.Series) -> str:
    return ", ".join(plain(value) for value in column.drop_duplicates() if not pd.isna(value))


def _pairs_table(pairs: dict[str, str]) -> str:
    """A two-column table of what is known."""
    known = [(name.replace("_", " "), value) for name, value in pairs.items() if value != ""]
    return tables.markdown(pd.DataFrame(known, columns=["", "value"]))


def _image(words: str, link: str) -> str:
    return f"![{words}]({link})"


def _link(run: Run, page_folder: Path) -> str:
    path = Path(os.path.relpath(run.folder, page_folder)).as_posix()
    return f"[{run.folder.name or path}]({path})"


def _file_name(*words: str) -> str:
    return re.sub(r"[^\w.-]+", "_", "-".join(words)) + ".png"


def _page(*paragraphs: str) -> str:
    return "\n\n".join(paragraphs) + "\n"
