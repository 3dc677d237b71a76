"""The report of kapp reproduce: the papers' tables and figures, published and measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from kapp.fileio import make_folder, write_text
from kapp.metrics.significance import mean_interval
from kapp.papers.figure import PublishedFigure
from kapp.reporting import differences, figures, summary, tables
from kapp.reporting.markdown import (
    Block,
    BulletList,
    Figure,
    Heading,
    Paragraph,
    Table,
    code,
    escape,
    link,
    to_markdown,
)
from kapp.reporting.run_report import has_validation, test_accuracy
from kapp.reporting.tables import format_si, format_value, interval, percent, points
from kapp.run_folder import Run

INTERVALS = (
    "In parentheses: the 95% interval, over the test images with one seed (Wilson's), over the seeds with "
    "several (Student's t). ± is the sample standard deviation over the seeds. The difference is ours minus "
    "published."
)


@dataclass(frozen=True)
class ReproducedRow:
    """One published accuracy, and the runs that reproduce it.

    Args:
        name: of the row.
        published: the accuracy, a fraction.
        published_epochs: of its training.
        reported_parameters: as the paper prints them; "" where it doesn't.
        compared_with: the name of the row that the paper compares this one with.
        seeds: how many runs are wanted.
        runs: the finished ones.
        elsewhere: the names of those of `runs` that were merged.
        hours: of what is missing, on this machine; None: not estimated.
        command: that runs what is missing.
        errors: why runs failed.
    """

    name: str
    published: float
    published_epochs: int
    reported_parameters: str
    compared_with: str | None
    seeds: int
    runs: tuple[Run, ...]
    elsewhere: frozenset[str]
    hours: float | None
    command: str
    errors: tuple[str, ...]

    @property
    def by_seed(self) -> dict[int, Run]:
        return {run.result.seed: run for run in self.runs}

    @property
    def accuracies(self) -> list[float]:
        return [run.result.test_accuracy for run in self.runs]


@dataclass(frozen=True)
class ReproducedTable:
    """A table of a paper.

    Args:
        title: with the paper's name and the table's number.
        rows: in the order of the paper.
    """

    title: str
    rows: Sequence[ReproducedRow]


@dataclass(frozen=True)
class ReproducedFigure:
    """A figure of a paper, with the finished runs of its rows."""

    paper: str  # its name in file names
    title: str  # its name in words
    figure: PublishedFigure
    rows: Sequence[ReproducedRow]


def write(
    out: Path,
    title: str,
    note: str,
    changes: Sequence[str],
    reproduced: Sequence[ReproducedTable],
    drawn: Sequence[ReproducedFigure],
    needed: Sequence[Run] = (),
) -> None:
    """Writes README.md, and where a run is finished rows.csv, figures/ and runs/.

    Args:
        out: the folder to write to.
        title: the page's title.
        note: a paragraph below the title, in the author's words.
        changes: what differs from the papers' settings, a line each.
        reproduced: the tables.
        drawn: the figures; those without a finished run are left out.
        needed: runs that rows need, such as teachers.

    Raises:
        KappError: `out` can't be written.
    """
    rows = list({row.name: row for table in reproduced for row in table.rows}.values())
    runs = {run.folder.resolve(): run for row in rows for run in row.runs}
    others = {run.folder.resolve(): run for run in needed if run.folder.resolve() not in runs}
    all_runs = [*runs.values(), *others.values()]
    make_folder(out / "figures")
    if all_runs:
        by_name: dict[str, Run] = {}  # a merged run may have the name of one of this machine
        for run in all_runs:
            by_name.setdefault(run.name, run)
        summary.copy_runs(by_name.values(), out)
    missing = [row for row in rows if len(row.runs) < row.seeds]
    devices = {_device(run, row) for row in rows for run in row.runs}
    blocks = [
        Heading(title, 1),
        *([Paragraph(note)] if note else []),
        Paragraph(
            f"Of {len(rows)} published accuracies, {sum(bool(row.runs) for row in rows)} are compared with "
            f"{len(runs)} runs, {len(rows) - len(missing)} of them with all their seeds."
        ),
        *(
            [Paragraph("What differs from the papers:"), BulletList(changes)]
            if changes
            else [Paragraph("The settings are those that the papers print.")]
        ),
        Paragraph(INTERVALS),
        *(block for table in reproduced for block in _table(table, rows, len(devices) > 1)),
        *([Paragraph(differences.COLUMNS_NOTE)] if any(_compared(row, rows) for row in rows) else []),
        *_others(list(others.values())),
        *_figures(drawn, out / "figures"),
        *_missing(missing),
        *_circumstances(all_runs, rows),
    ]
    write_text(out / "README.md", to_markdown(blocks))


def _table(table: ReproducedTable, rows: Sequence[ReproducedRow], with_device: bool) -> Iterator[Block]:
    """A table of a paper, and the paired tests of its rows."""
    yield Heading(table.title)
    yield Table([_line(row, with_device) for row in table.rows])
    names: list[tuple[str, float]] = []  # and the published difference
    tested = []
    notes: list[Block] = []
    for row in table.rows:
        baseline = _compared(row, rows)
        if baseline is None:
            continue
        name = f"{row.name} compared with {baseline.name.removeprefix(row.runs[0].result.model).strip()}"
        found, smallest = differences.compare_common_seeds(row.by_seed, baseline.by_seed)
        if found is None:
            notes += [Paragraph(escape(f"{name}: {differences.NO_TEST}"))]
            continue
        names += [(name, row.published - baseline.published)]
        tested += [(found, smallest)]
    lines: list[dict[str, str | int]] = [
        {
            "comparison": name,
            "published": f"{100 * published:+.1f} points",
            "ours (paired 95% interval)": points(found.difference, *found.interval),
            **columns,
        }
        for (name, published), (found, _), columns in zip(names, tested, differences.columns(tested))
    ]
    yield Table(lines)
    yield from notes


def _compared(row: ReproducedRow, rows: Sequence[ReproducedRow]) -> ReproducedRow | None:
    """The row that the paper compares `row` with, where the two share a seed."""
    baseline = next((each for each in rows if each.name == row.compared_with), None)
    return baseline if baseline and row.by_seed.keys() & baseline.by_seed.keys() else None


def _line(row: ReproducedRow, with_device: bool) -> dict[str, str | int]:
    """The row of the table; with the device where the table has several."""
    results = [run.result for run in row.runs]
    counted = format_si(results[0].parameters) if results else ""
    width = row.runs[0].setting("width", float) if results else 1.0
    if width != 1:
        counted += f" at width {width:g}"
    epochs = ", ".join(dict.fromkeys(format_value(result.epochs) for result in results))
    line: dict[str, str | int] = {
        "row": row.name,
        "published": f"{100 * row.published:.2f}%",
        "ours": _ours(row),
        "n": f"{len(row.runs)}" if len(row.runs) == row.seeds else f"{len(row.runs)} of {row.seeds}",
        "difference": f"{100 * (mean(row.accuracies) - row.published):+.1f} points" if results else "",
        "parameters, counted": counted,
        **({"reported": row.reported_parameters} if row.reported_parameters else {}),
        "epochs": epochs,
        "published epochs": row.published_epochs,
    }
    if with_device:
        line["device"] = ", ".join(dict.fromkeys(_device(run, row) for run in row.runs))
    return line


def _ours(row: ReproducedRow) -> str:
    accuracies = row.accuracies
    if len(accuracies) > 1:
        low, high = mean_interval(accuracies)
        spread = f"{percent(mean(accuracies))} ± {100 * stdev(accuracies):.1f}"
        return f"{spread} ({100 * low:.1f} to {100 * high:.1f})"
    if accuracies:
        return interval(accuracies[0], *row.runs[0].result.test_interval)
    return "failed" if row.errors else f"not run{_hours(row)}"


def _hours(row: ReproducedRow) -> str:
    return "" if row.hours is None else f" ({format_hours(row.hours)} here)"


def format_hours(hours: float) -> str:
    """7.52 -> "7.5 h"; 0.21 -> "13 min"; 120.4 -> "120 h"; 0.01 -> "< 1 min"."""
    if hours < 1:
        return f"{60 * hours:.0f} min" if hours >= 1 / 60 else "< 1 min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _device(run: Run, row: ReproducedRow) -> str:
    result = run.result
    elsewhere = ", merged" if run.name in row.elsewhere else ""
    return f"{result.device} ({result.backend}, {result.precision}{elsewhere})"


def _figures(drawn: Sequence[ReproducedFigure], folder: Path) -> Iterator[Block]:
    """The figures of the papers, as far as there are runs."""
    started = False
    for each in drawn:
        rows = [row for row in each.rows if row.runs]
        if not rows:
            continue
        if not started:
            started = True
            yield Heading("Figures")
        figure = each.figure
        path = folder / summary.file_name(each.paper, "figure", figure.number)
        title = f"{each.title}, figure {figure.number}"
        if figure.quantity == "test_accuracy":
            frame = tables.rows(run.folder for row in rows for run in row.runs)
            published = {
                (run.result.model, "+".join(run.result.teachers)): row.published
                for row in rows
                for run in row.runs
            }
            figures.bars(frame, path, title, published)
        else:
            parts = [(row.name, row.runs[0].metrics()) for row in rows]
            selects = has_validation(rows[0].runs[0].result)
            figures.side_by_side(parts, figure.quantity, path, title, selects)
        units = " The losses have different units: compare their shapes." if len(rows) > 1 else ""
        yield Paragraph(f"{title}: {figure.caption}.{units if figure.quantity == 'loss' else ''}")
        yield Figure(f"figures/{path.name}", title)


def _others(runs: Sequence[Run]) -> list[Block]:
    """Runs that aren't rows of these tables."""
    if not runs:
        return []
    lines: list[dict[str, str | int]] = [
        {
            "network": run.result.model,
            "data set": run.result.dataset,
            "seed": run.result.seed,
            "test accuracy": test_accuracy(run.result),
            "parameters": format_si(run.result.parameters),
            "epochs": run.result.epochs,
        }
        for run in runs
    ]
    return [Heading("Needed by these rows"), Table(lines)]


def _missing(rows: Sequence[ReproducedRow]) -> list[Block]:
    """What wasn't run, and its commands."""
    if not rows:
        return []
    items = []
    for row in rows:
        count = row.seeds - len(row.runs)
        seeds = "" if count == row.seeds else f", {count} of {row.seeds} seeds"
        why = f" failed: {'; '.join(row.errors).rstrip('.')}." if row.errors else ""
        items += [f"{escape(f'{row.name}{seeds}{_hours(row)}:{why}')} {code(row.command)}"]
    return [Heading("Not run"), BulletList(items)]


def _circumstances(runs: Sequence[Run], rows: Sequence[ReproducedRow]) -> list[Block]:
    """Where the runs were computed, and where their files are."""
    if not runs:
        return []
    results = [run.result for run in runs]
    named = {
        name: ", ".join(dict.fromkeys(str(getattr(result, name)) for result in results))
        for name in ("dataset", "train_images", "validation_images", "seed", "device", "backend", "precision")
    }
    named["commit"] = ", ".join(dict.fromkeys(result.commit for result in results))
    elsewhere = sorted({name for row in rows for name in row.elsewhere})
    merged: list[Block] = []
    if elsewhere:
        merged = [
            Paragraph("Merged from run folders of another machine or place:"),
            BulletList([link(name, f"runs/{name}") for name in elsewhere]),
        ]
    return [
        Heading("Runs"),
        tables.pairs(named),
        *merged,
        Paragraph(
            "Every run is a row of [rows.csv](rows.csv), with its settings, and a folder in [runs](runs), "
            "with its epochs, environment and confusion matrix. `kapp report` compares them on one page."
        ),
    ]
