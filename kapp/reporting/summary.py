"""The report on many runs: one page with its figures, its rows and a copy of the runs' results."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from kapp.errors import ConfigError
from kapp.fileio import atomic_file, make_folder, write_text
from kapp.metrics.significance import SeedComparison
from kapp.records import Comparison
from kapp.reporting import differences, figures, run_report, tables
from kapp.reporting.markdown import Block, Figure, Heading, Paragraph, Table, code, escape, to_markdown
from kapp.reporting.tables import FOLLOWED, format_value, points
from kapp.run_folder import Run

CIRCUMSTANCES = "dataset width epochs seed device backend precision commit".split()
MAX_NAME_BYTES = 100  # of a figure's name without its digest; some file systems have 255 for all of it
Seeds = dict[int, Run]  # the first run of each seed


@dataclass(frozen=True)
class Pair:
    """An experiment and the one that it is compared with."""

    name: str
    row: Mapping[Any, Any]  # of `tables.experiments`
    runs: Seeds
    baseline: Seeds  # empty where there is none

    @property
    def common_seeds(self) -> list[int]:
        return [seed for seed in self.runs if seed in self.baseline]

    @property
    def drawn(self) -> tuple[Run, Run | None]:
        """The runs to draw: of a common seed, else the first of each."""
        for seed in self.common_seeds:
            return self.runs[seed], self.baseline[seed]
        return next(iter(self.runs.values())), next(iter(self.baseline.values()), None)

    @cached_property
    def comparison(self) -> tuple[Comparison | SeedComparison | None, float]:
        """As from `differences.compare_common_seeds`, of a pair with common seeds."""
        return differences.compare_common_seeds(self.runs, self.baseline)


def write(
    runs: Iterable[Run], out: Path, title: str = "Results", note: str = "", reference: Run | None = None
) -> None:
    """Writes README.md over the finished `runs`, with rows.csv, figures/ and runs/.

    Args:
        runs: unfinished ones are left out.
        out: the folder to write to.
        title: the page's title.
        note: a paragraph below the title, in the author's words.
        reference: one of `runs`. The other experiments are compared with its experiment, instead
            of each distillation and fine-tuning with a training on labels.

    Raises:
        ConfigError: none of the runs is finished, two have one name, or `reference` isn't one of them.
        KappError: `out` can't be written.
    """
    runs = list({run.folder.resolve(): run for run in runs if run.is_finished}.values())
    if not runs:
        raise ConfigError("no finished run to report on. Give run folders with a result.json.")
    if reference and reference.folder.resolve() not in [run.folder.resolve() for run in runs]:
        raise ConfigError(f"the reference {reference.folder} isn't one of the finished runs.")
    frame = copy_runs(runs, out)
    baselines = _with_baseline(runs, frame)
    if reference:
        compared = _differences_to(reference, _with_reference(reference, runs, frame), out / "figures")
    else:
        compared = _differences(baselines)
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
        *compared,
        *_bars(frame, out / "figures"),
        *_by_epochs(frame, out / "figures"),
        *_by_labels(frame, out / "figures"),
        *_curves(baselines, runs, out / "figures"),
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


def _with_baseline(runs: Sequence[Run], frame: pd.DataFrame) -> list[Pair]:
    """Each experiment of distillation or fine-tuning, with that of the same network, data and number of
    labels on labels alone.

    Of several on labels, the one whose settings of training are the most similar; of these, the one with the
    most common seeds.
    """
    table, seeds = tables.experiments(frame), _seeds(runs, frame)
    on_labels = (table["teachers"] == "") & table["phase"].isna()
    text = table[["model", *tables.TRAINING]].map(format_value)
    same = ["model", "dataset", "data_sha256", "width", "labeled"]
    pairs = []
    for number, row in enumerate(table.to_dict("records")):
        if on_labels[number] or row["phase"] == "linear_probe":
            continue
        others = text[on_labels & (text[same] == text.loc[number, same]).all(axis=1)]
        similar = (others == text.loc[number]).sum(axis=1)
        common = {other: len(seeds[number].keys() & seeds[other]) for other in similar.index}
        baseline = max(similar.index, key=lambda other: (similar[other], common[other]), default=None)
        name = f"{row['model']}: {row['trained_on']} compared with "
        name += "scratch" if row["phase"] == "fine_tuning" else "labels"
        pairs += [Pair(name, row, seeds[number], seeds.get(baseline, {}))]
    return pairs


def _with_reference(reference: Run, runs: Sequence[Run], frame: pd.DataFrame) -> list[Pair]:
    """Each other experiment, named by what it has otherwise than that of `reference`; on other data, without
    a baseline."""
    rows, seeds = tables.experiments(frame).to_dict("records"), _seeds(runs, frame)
    at = [run.folder.resolve() for run in runs].index(reference.folder.resolve())
    own = int(_numbers(frame).iloc[at])
    baseline = {**seeds[own], reference.result.seed: reference}  # of several runs of its seed, this one
    names = [tables.changes(row, rows[own]) for row in rows]
    return [
        # Where teachers differ in details, two have the same name.
        Pair(
            name if names.count(name) == 1 else f"{name} ({row['trained_on']})",
            row,
            seeds[number],
            baseline if row["data_sha256"] == rows[own]["data_sha256"] else {},
        )
        for number, (name, row) in enumerate(zip(names, rows))
        if number != own
    ]


def _numbers(frame: pd.DataFrame) -> pd.Series:
    """For each run, the number of its row in `tables.experiments`."""
    return frame.groupby(tables.EXPERIMENT, dropna=False, sort=False).ngroup()


def _seeds(runs: Sequence[Run], frame: pd.DataFrame) -> dict[Any, Seeds]:
    """The runs of each row of `tables.experiments`, by its number."""
    seeds: dict[Any, Seeds] = {}
    for number, run in zip(_numbers(frame), runs):
        seeds.setdefault(int(number), {}).setdefault(run.result.seed, run)
    return seeds


def _differences(pairs: Sequence[Pair]) -> Iterator[Block]:
    """The paired test of each of `pairs` that has a common seed."""
    if any(pair.common_seeds for pair in pairs):
        yield Heading("Differences")
        yield from _tests(pairs)


def _tests(pairs: Sequence[Pair]) -> Iterator[Block]:
    found = [(pair, *pair.comparison) for pair in pairs if pair.common_seeds]
    tested = [(pair, comparison, smallest) for pair, comparison, smallest in found if comparison]
    lines: list[dict[str, str | int]] = [
        {
            "comparison": pair.name,
            "difference (paired 95% interval)": points(comparison.difference, *comparison.interval),
            **columns,
        }
        for (pair, comparison, _), columns in zip(tested, differences.columns([each[1:] for each in tested]))
    ]
    if lines:
        yield Table(lines)
        yield Paragraph(differences.COLUMNS_NOTE)
    for pair, comparison, _ in found:
        if not comparison:
            yield Paragraph(escape(f"{pair.name}: {differences.NO_TEST}"))


def _differences_to(reference: Run, pairs: Sequence[Pair], folder: Path) -> Iterator[Block]:
    """The paired test of each of `pairs`, whose baseline is the experiment of `reference`; and a figure."""
    name = code(reference.name)
    yield Heading("Differences")
    yield Paragraph(
        f"Each experiment minus that of {name}, on the same test images. An experiment is named by what it "
        "has otherwise."
    )
    yield from _tests(pairs)
    if without := [pair.name for pair in pairs if not pair.common_seeds]:
        yield Paragraph(
            f"Not compared, because they have no seed of {name} or other data: {escape('; '.join(without))}."
        )
    rows = [
        (pair.name, comparison.difference, *comparison.interval)
        for pair in pairs
        if pair.common_seeds and (comparison := pair.comparison[0])
    ]
    if rows:
        rows.sort(key=lambda row: -row[1])
        figures.differences(rows, folder / "differences.png", f"Differences to {reference.name}")
        yield Figure("figures/differences.png", f"Differences of the test accuracy to {reference.name}")


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
    table["labels"] = table["labeled_images"].fillna(table["labeled"]).fillna(table["train_images"])
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
    settings = "|".join(f"{name.replace('_', ' ')} [^,]+" for name in follow)
    settings += "|all labels" if "labeled" in follow else ""
    table["series"] = [re.sub(rf", (?:{settings})", "", name) for name in table["trained_on"]]
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


def _curves(pairs: Sequence[Pair], runs: Sequence[Run], folder: Path) -> Iterator[Block]:
    """The curves of the first seed of each distillation, next to those on labels, and of each transfer; with
    several seeds, the accuracy of all. Of trainings that differ in other settings the longest is drawn."""
    drawn = set()
    for pair in sorted(pairs, key=lambda each: -each.row["epochs"]):
        row, (experiment, baseline) = pair.row, pair.drawn
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
            if len(pair.common_seeds) > 1:
                yield _over_epochs(pair, folder / f"seeds-{name}")
        drawn.add(name)


def _over_epochs(pair: Pair, path: Path) -> Figure:
    """The accuracy per epoch of all common seeds, distilled and on labels."""
    parts = [
        (name, [runs[seed].metrics() for seed in pair.common_seeds])
        for name, runs in (("on labels", pair.baseline), (f"from {pair.row['trained_on']}", pair.runs))
    ]
    run = pair.drawn[0]
    figures.over_epochs(parts, path, pair.row["model"], run.result.validation_images > 0)
    seeds = len(pair.common_seeds)
    caption = f"Accuracy of {run_report.describe(run)}, {seeds} seeds: mean, lowest and highest"
    return Figure(f"figures/{path.name}", caption)


def file_name(*words: str) -> str:
    """Returns the name of a PNG file, of characters that are safe in links: short, and another one for each
    path."""
    name = "-".join(words)
    safe = re.sub(r"[^\w.-]+", "_", name)
    if "/" in name or len(safe.encode()) > MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        safe = f"{safe.encode()[:MAX_NAME_BYTES].decode(errors='ignore')}-{digest}"
    return f"{safe}.png"


def _distinct(column: pd.Series) -> str:
    return ", ".join(format_value(value) for value in column.drop_duplicates() if not pd.isna(value))
