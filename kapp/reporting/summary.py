"""The report on many runs: one page with its figures, its rows and a copy of the runs' results."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kapp.errors import ConfigError
from kapp.fileio import atomic_file, make_folder, write_text
from kapp.metrics import significance
from kapp.reporting import differences, figures, run_report, tables
from kapp.reporting.markdown import Block, Figure, Heading, Paragraph, Table, escape, to_markdown
from kapp.reporting.tables import FOLLOWED, format_value, points
from kapp.run_folder import Run

CIRCUMSTANCES = "dataset width epochs seed device backend precision commit".split()
DIFFERENCES_NOTE = (
    "Runs with one common seed are compared image by image: the interval is a bootstrap over the test "
    "images, paired by image, and the test is McNemar's exact test. Both cover the sampling noise of the "
    "images alone. Runs with several common seeds are compared by the paired t-test over the seeds, which "
    "also covers the noise of training; where the difference is the same for all seeds, on the images of the "
    "first. The last column is the smallest difference that these images or "
    f"seeds could have detected at the {significance.ALPHA:.0%} level."
)
Seeds = dict[int, Run]  # the first run of each seed


@dataclass(frozen=True)
class Match:
    """An experiment of distillation or fine-tuning, and the one on labels that it is compared with."""

    row: Mapping[Any, Any]  # of `tables.experiments`
    runs: Seeds
    baseline: Seeds  # empty where there is none

    @property
    def common_seeds(self) -> list[int]:
        return [seed for seed in self.runs if seed in self.baseline]

    @property
    def pair(self) -> tuple[Run, Run | None]:
        """The runs to draw: of a common seed, else the first of each."""
        for seed in self.common_seeds:
            return self.runs[seed], self.baseline[seed]
        return next(iter(self.runs.values())), next(iter(self.baseline.values()), None)


def write(runs: Iterable[Run], out: Path, title: str = "Results", note: str = "") -> None:
    """Writes README.md over the finished `runs`, with rows.csv, figures/ and runs/.

    Args:
        runs: unfinished ones are left out.
        out: the folder to write to.
        title: the page's title.
        note: a paragraph below the title, in the author's words.

    Raises:
        ConfigError: none of the runs is finished, or two have one name.
        KappError: `out` can't be written.
    """
    runs = list({run.folder.resolve(): run for run in runs if run.is_finished}.values())
    if not runs:
        raise ConfigError("no finished run to report on. Give run folders with a result.json.")
    frame = copy_runs(runs, out)
    matched = _matched(runs, frame)
    blocks = [
        Heading(title, 1),
        *([Paragraph(note)] if note else []),
        Paragraph(
            f"Finished runs: {len(frame)}. Where images were held out for validation, networks and epochs "
            "were chosen on them, and the test images were scored once, at the end of each run. Without them "
            "the network is that of the last epoch. Intervals are Wilson's, over test images."
        ),
        *(Paragraph(escape(each)) for each in _overlaps(runs)),
        *tables.comparison_blocks(frame),
        *_differences(matched),
        *_bars(frame, out / "figures"),
        *_by_epochs(frame, out / "figures"),
        *_by_labels(frame, out / "figures"),
        *_curves(matched, runs, out / "figures"),
        Heading("Settings"),
        tables.pairs({name: _distinct(frame[name]) for name in CIRCUMSTANCES}),
        Paragraph(
            "Every run is a row of [rows.csv](rows.csv), with its settings, and a folder in [runs](runs), "
            "with its epochs, environment and confusion matrix. `kapp report` makes this page from those."
        ),
    ]
    write_text(out / "README.md", to_markdown(blocks))


def copy_runs(runs: Iterable[Run], out: Path) -> pd.DataFrame:
    """Writes rows.csv and runs/, a copy of the results of finished `runs`; makes figures/.

    Returns:
        The rows, as `tables.rows`.

    Raises:
        ConfigError: two of them have one name.
    """
    runs = list(runs)
    for name, count in Counter(run.name for run in runs).items():
        if count > 1:
            raise ConfigError(f"two runs are called {name}: rename the folder of one of them.")
    frame = tables.rows(run.folder for run in runs)
    make_folder(out / "figures")
    with atomic_file(out / "rows.csv") as partial:
        frame.to_csv(partial, index=False)
    for run in runs:
        run.copy_results(out / "runs" / run.name)
    return frame


def _overlaps(runs: Iterable[Run]) -> list[str]:
    """Which teachers and sources were, or may have been, trained on validation images."""
    results = [run.result for run in runs]
    sentences = [run_report.overlap_sentences(each) for each in results if {*each.validation_overlap} - {0}]
    return [each for each in dict.fromkeys(sentences) if each]


def _matched(runs: Sequence[Run], frame: pd.DataFrame) -> list[Match]:
    """Each experiment of distillation or fine-tuning, with that of the same network, data and number of
    labels on labels alone.

    Of several on labels, the one whose settings of training are the most similar.
    """
    table = tables.experiments(frame)
    numbers = frame.groupby(tables.EXPERIMENT, dropna=False, sort=False).ngroup()  # as the rows of `table`
    seeds: dict[Any, Seeds] = {}
    for number, run in zip(numbers, runs):
        seeds.setdefault(int(number), {}).setdefault(run.result.seed, run)
    on_labels = (table["teachers"] == "") & table["phase"].isna()
    text = table[["model", *tables.TRAINING]].map(format_value)
    same = ["model", "dataset", "data_sha256", "width", "labeled"]
    matched = []
    for number, row in enumerate(table.to_dict("records")):
        if on_labels[number] or row["phase"] == "linear_probe":
            continue
        others = text[on_labels & (text[same] == text.loc[number, same]).all(axis=1)]
        similar = (others == text.loc[number]).sum(axis=1)
        matched += [Match(row, seeds[number], seeds[similar.idxmax()] if len(similar) else {})]
    return matched


def _differences(matched: Sequence[Match]) -> list[Block]:
    """The paired test of each experiment with its baseline."""
    lines: list[dict[str, str | int]] = []
    notes = []
    for match in matched:
        if not match.common_seeds:
            continue
        baseline = "scratch" if match.row["phase"] == "fine_tuning" else "labels"
        name = f"{match.row['model']}: {match.row['trained_on']} compared with {baseline}"
        found, smallest = differences.compare_common_seeds(match.runs, match.baseline)
        if found is None:
            notes += [Paragraph(escape(f"{name}: {differences.NO_TEST}"))]
            continue
        lines += [
            {
                "comparison": name,
                "seeds": differences.count_seeds(found),
                "difference (paired 95% interval)": points(found.difference, *found.interval),
                "p": f"{found.p_value:.2g}",
                "smallest detectable": differences.format_smallest(smallest),
            }
        ]
    if lines:
        notes = [Paragraph(DIFFERENCES_NOTE), *notes]
    return [Heading("Differences"), Table(lines), *notes] if notes else []


def _by_epochs(frame: pd.DataFrame, folder: Path) -> Iterator[Block]:
    """One figure per data set and width of the networks that were trained for several numbers of epochs, on
    labels as well as by distillation."""
    table = _lines(tables.experiments(frame[frame["phase"].isna()]), "epochs", ["epochs"])
    is_distilled = (table["teachers"] != "").groupby([table[name] for name in ("model", "dataset", "width")])
    table = table[is_distilled.transform("nunique") > 1]
    yield from _by_quantity(table, "epochs", "epochs of the training", folder)


def _by_labels(frame: pd.DataFrame, folder: Path) -> Iterator[Block]:
    """One figure per data set and width of the networks that were trained with several numbers of labels."""
    table = tables.experiments(frame)
    table["labels"] = table["labeled"].fillna(table["train_images"])
    table = _lines(table, "labels", ["labeled", "epochs", *FOLLOWED])
    yield from _by_quantity(table, "labels", "training images with a label", folder)


def _lines(table: pd.DataFrame, quantity: str, follow: Sequence[str]) -> pd.DataFrame:
    """Returns the rows of `table` that are points of a line over `quantity`, with `series`, its name.

    Of several experiments at one point, the one with the best validation accuracy.

    Args:
        table: as from `tables.experiments`.
        quantity: a column.
        follow: the settings that differ along a line.
    """
    settings = "|".join(name.replace("_", " ") for name in follow)
    table["series"] = [re.sub(rf", (?:{settings}) [^,]+", "", name) for name in table["trained_on"]]
    line = ["model", "dataset", "width", "series"]
    several = table.groupby(line, dropna=False, sort=False)[quantity].transform("nunique") > 1
    best = table["val_accuracy"].fillna(0).sort_values(kind="stable").index
    return table[several & ~table.loc[best].duplicated([*line, quantity], keep="last")]


def _by_quantity(table: pd.DataFrame, quantity: str, label: str, folder: Path) -> Iterator[Block]:
    """One figure per data set and width of `table`, as from `_lines`."""
    for (dataset, width), group in table.groupby(["dataset", "width"], dropna=False, sort=False):
        path = folder / file_name(quantity, str(dataset), format_value(width))
        figures.by_quantity(group, quantity, label, path, str(dataset))
        yield Figure(f"figures/{path.name}", f"Test accuracy by the {label}, {dataset}")


def _bars(frame: pd.DataFrame, folder: Path) -> Iterator[Block]:
    """One figure per data set and, where a network comes in several widths, per width."""
    for dataset, rows in frame.groupby("dataset", dropna=False, sort=False):
        widths = rows.groupby("width", dropna=False, sort=False)
        one_width = rows.groupby("model")["width"].nunique().max() == 1
        groups = [("", rows)] if one_width else [(format_value(width), group) for width, group in widths]
        for width, group in groups:
            place = [str(dataset), *([width] if width else [])]
            path = folder / file_name("accuracies", *place)
            figures.bars(group, path, ", width ".join(place))
            yield Figure(f"figures/{path.name}", f"Test accuracies on {', width '.join(place)}")


def _curves(matched: Sequence[Match], runs: Sequence[Run], folder: Path) -> Iterator[Block]:
    """The curves of the first seed of each distillation, next to those on labels, and of each transfer; with
    several seeds, the accuracy of all. Of trainings that differ in other settings the longest is drawn."""
    drawn = set()
    for match in sorted(matched, key=lambda each: -each.row["epochs"]):
        row, (experiment, baseline) = match.row, match.pair
        width, loss = format_value(row["width"]), row["distillation_loss"]
        if row["phase"] == "fine_tuning":
            name = file_name(row["model"], row["source"], row["dataset"], row["head"])
            probe = next((each for each in runs if each.name == f"{experiment.name}-linear_probe"), None)
        else:
            name = file_name(row["model"], row["dataset"], width, *row["teachers"].split("+"), loss)
        if name in drawn:
            continue
        if row["phase"] == "fine_tuning" and probe:
            run_report.draw_phases(experiment, probe, baseline, folder / f"phases-{name}")
            caption = f"Accuracy of {run_report.describe(experiment)}, and of the phases before"
            yield Figure(f"figures/phases-{name}", caption)
        elif row["teachers"] and baseline:
            for quantity in ("loss", "accuracy"):
                run_report.draw_pair(experiment, baseline, quantity, folder / f"{quantity}-{name}")
                caption = f"{quantity.capitalize()} of {run_report.describe(experiment)}"
                yield Figure(f"figures/{quantity}-{name}", caption)
            if len(match.common_seeds) > 1:
                yield _over_epochs(match, folder / f"seeds-{name}")
        drawn.add(name)


def _over_epochs(match: Match, path: Path) -> Figure:
    """The accuracy per epoch of all common seeds, distilled and on labels."""
    parts = [
        (name, [runs[seed].metrics() for seed in match.common_seeds])
        for name, runs in (("on labels", match.baseline), (f"from {match.row['trained_on']}", match.runs))
    ]
    run = match.pair[0]
    figures.over_epochs(parts, path, match.row["model"], run.result.validation_images > 0)
    seeds = len(match.common_seeds)
    caption = f"Accuracy of {run_report.describe(run)}, {seeds} seeds: mean, lowest and highest"
    return Figure(f"figures/{path.name}", caption)


def file_name(*words: str) -> str:
    """Returns the name of a PNG file, of characters that are safe in links."""
    return re.sub(r"[^\w.-]+", "_", "-".join(words)) + ".png"


def _distinct(column: pd.Series) -> str:
    return ", ".join(format_value(value) for value in column.drop_duplicates() if not pd.isna(value))
