"""The plan in words: rows, runs, hours."""

from collections.abc import Sequence

from kapp.papers import hu
from kapp.recipes import transfer
from kapp.reporting.markdown import Table, to_markdown
from kapp.reporting.reproduction_report import format_hours
from kapp.reproduction.paper_rows import Row
from kapp.reproduction.plan import Cell, Plan, PlannedRun


def rows_table(planned: Plan, picked: Sequence[Row]) -> str:
    """Returns the rows, the most valuable first, with their hours. A run counts for the first row that needs
    it."""
    counted: set[PlannedRun] = set()
    lines: list[dict[str, str | int]] = []
    for row in dict.fromkeys(cell.row for cell in planned.cells if cell.row in picked):
        cells = planned.of(row)
        missing = [run for cell in cells for run in cell.missing()]
        new = [run for run in dict.fromkeys(missing) if run not in counted]
        counted |= set(new)
        rate = cells[0].planned.images_per_second
        lines += [
            {
                "row": row.name,
                "published": f"{100 * row.accuracy:.2f}%",
                "width": f"{planned.shared.width(row.model):g}",
                "epochs": _epochs(cells[0]),
                "images/s": "" if rate is None else f"{rate:,.0f}",
                "seeds found": f"{sum(cell.is_finished for cell in cells)} of {len(cells)}",
                "runs to do": len(new),
                "hours": total_hours(new),
            }
        ]
    return to_markdown([Table(lines)]).rstrip()


def runs_list(runs: Sequence[PlannedRun]) -> str:
    """Returns the runs in the order in which they start, a line each."""
    width = len(str(len(runs)))
    return "\n".join(f"{i:{width}}. {run.name}: {total_hours([run])}" for i, run in enumerate(runs, start=1))


def summary(planned: Plan, picked: Sequence[Row]) -> str:
    """Returns how many runs the rows need, how many are found, and the hours of the others."""
    needed = {run for cell in planned.cells if cell.row in picked for run in _with_needs(cell)}
    runs = planned.to_do(picked)
    hours = f": {total_hours(runs)} here" if runs else ""
    return f"{len(needed)} runs, {len(needed) - len(runs)} found, {len(runs)} to do{hours}"


def total_hours(runs: Sequence[PlannedRun]) -> str:
    """Returns the estimated hours of `runs`; "" without runs."""
    estimated = [run.seconds_left for run in runs if run.seconds_left is not None]
    words = [format_hours(sum(estimated) / 3600)] if estimated else []
    if len(estimated) < len(runs):
        count = len(runs) - len(estimated)
        words += ["1 run without an estimate" if count == 1 else f"{count} runs without an estimate"]
    return " and ".join(words)


def _epochs(cell: Cell) -> int:
    settings = cell.planned.settings
    if isinstance(settings, transfer.Settings) and isinstance(cell.row, hu.Row):
        return settings.phases.probe_epochs if cell.row.phase == "linear_probe" else settings.hparams.epochs
    return settings.hparams.epochs


def _with_needs(cell: Cell) -> list[PlannedRun]:
    """The runs of a cell, finished or not; that of a merged run counts itself."""
    runs = [cell.planned]
    if not cell.is_finished:
        for run in runs:
            runs += run.needs
    return runs
