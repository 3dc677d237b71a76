"""Many runs become one page, with their figures and their records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from kapp.errors import WrongValue
from kapp.files import make_folder, replacing, write_text
from kapp.reporting import figures, tables
from kapp.reporting.page import draw_paired, draw_phases, file_name, image, page, pairs_table, words_of
from kapp.reporting.tables import plain
from kapp.runs import Run

CIRCUMSTANCES = "dataset width epochs seed device backend precision commit".split()


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
        name = file_name("accuracies", *place)
        figures.bars(group, out / "figures" / name, ", width ".join(place))
        drawn += [image(f"Test accuracies on {', width '.join(place)}", f"figures/{name}")]
    for name, distilled, labels in _pairs(runs):
        for quantity in ("loss", "accuracy"):
            link = f"figures/{quantity}-{name}"
            draw_paired(distilled, labels, quantity, out / link)
            drawn += [image(f"{quantity.capitalize()} of {words_of(distilled)}", link)]
    for name, whole, phase1, scratch in _transfers(runs):
        link = f"figures/phases-{name}"
        draw_phases(whole, phase1, scratch, out / link)
        drawn += [image(f"Accuracy of {words_of(whole)} and before", link)]

    text = page(
        f"# {title}",
        *([note] if note else []),
        f"{len(frame)} finished runs. Networks and epochs were chosen on validation images; the test "
        "images were scored once, at the end of each run. Intervals are Wilson's, over test images.",
        tables.comparison(frame),
        *drawn,
        "## Settings",
        pairs_table({name: _values(frame[name]) for name in CIRCUMSTANCES}),
        "Every run is a row of [rows.csv](rows.csv), with its settings, and a folder in [runs](runs), with "
        "its epochs, environment and confusion matrix. From those, `kapp report` makes this page again.",
    )
    write_text(out / "README.md", text)
    return text


def _transfers(runs: Sequence[Run]) -> list[tuple[str, Run, Run, Run | None]]:
    """For each transfer, of the seed seen first: a file name, phase 2, phase 1, the network from scratch."""
    found: dict[str, dict[str, Run]] = {}
    scratch: dict[str, Run] = {}
    for run in runs:
        result = run.result
        if "phase" in result:
            name = file_name(result["model"], result["source"], result["dataset"], result["head"])
            found.setdefault(name, {}).setdefault(result["phase"], run)
        elif not result["teachers"]:
            scratch.setdefault(file_name(result["model"], result["dataset"]), run)
    return [
        (
            name,
            phases["phase 2"],
            phases["phase 1"],
            scratch.get(file_name(*(phases["phase 2"].result[key] for key in ("model", "dataset")))),
        )
        for name, phases in found.items()
        if len(phases) == 2
    ]


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
            name = file_name(*place, *result["teachers"], result["objective"])
            distilled.setdefault(name, (file_name(*place), run))
        else:
            on_labels.setdefault(file_name(*place), run)
    return [(name, run, on_labels[place]) for name, (place, run) in distilled.items() if place in on_labels]


def _values(column: pd.Series) -> str:
    return ", ".join(plain(value) for value in column.drop_duplicates() if not pd.isna(value))
