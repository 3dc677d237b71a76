"""The page of all measurements: README.md and its figures, from rows.csv."""

import ast
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks import figures
from benchmarks.suite import COMMANDS, COMPARISONS, SCALINGS, TIMES_TO_ACCURACY
from kapp.errors import KappError
from kapp.fileio import make_folder, write_text
from kapp.reporting.markdown import Block, Figure, Heading, Markdown, Paragraph, Table, to_markdown

CIFAR10 = 40_000  # training images per epoch (Ratusznik et al., section 3)
KEYS = ["benchmark", "group", "command", "x"]


class Measured(NamedTuple):
    """The costs of a contender; the arrays have a value per repetition, without the warm-up."""

    benchmark: str
    group: str
    command: str
    x: str
    seconds: np.ndarray
    rate: np.ndarray  # images per second
    startup: float  # seconds of imports, building and compiling: what the warm-up takes longer
    busy_cores: float
    peak_bytes: int

    @property
    def name(self) -> str:
        return f"`{self.command.replace('python -m benchmarks.workloads.', '')}`"


def write(folder: Path) -> Path:
    """Write README.md and its figures into `folder`, which has rows.csv and may have notes.md.

    Raises:
        KappError: nothing was measured.
    """
    path, notes = folder / "rows.csv", folder / "notes.md"
    if not path.is_file():
        raise KappError(f"{path} doesn't exist: measure something first.")
    rows = pd.read_csv(path, dtype={"x": str}, keep_default_na=False, float_precision="round_trip")
    measured = [_measured(key, each) for key, each in rows.groupby(KEYS, sort=False)]
    make_folder(folder / "figures")
    blocks = [
        Heading("Performance", 1),
        Paragraph(_introduction(rows)),
        *_targets(measured, folder),
        *_commands(measured),
        *_memory([each for each in measured if each.benchmark == "memory"]),
        *_times_to_accuracy(measured, folder),
        *_scaling(measured, folder),
        *_contenders(measured),
        *_workloads(rows.command),
        Paragraph(notes.read_text(encoding="utf-8").strip() if notes.is_file() else ""),
    ]
    write_text(folder / "README.md", to_markdown(blocks))
    return folder / "README.md"


def _measured(key: Any, rows: pd.DataFrame) -> Measured:
    benchmark, group, command, x = key
    rest = rows[1:] if len(rows) > 1 else rows
    seconds, rate = rest.seconds.to_numpy(), (rest.images / rest.seconds).to_numpy()
    startup = max(0.0, rows.seconds.iloc[0] - np.median(seconds))
    cores, peak_bytes = (rest.cpu_seconds / rest.seconds).median(), rows.peak_bytes.iloc[-1]
    return Measured(benchmark, group, command, x, seconds, rate, startup, cores, peak_bytes)


def _introduction(rows: pd.DataFrame) -> str:
    names = ("cpu", "date", "commit", "versions")
    cpu, date, commit, versions = (", ".join(dict.fromkeys(filter(None, rows[name]))) for name in names)
    repetitions = rows.groupby(KEYS).repetition.max()
    counts = " to ".join(map(str, sorted(set(repetitions[repetitions > 0]))))
    load = f"{rows.load_average.min():.1f} to {rows.load_average.max():.1f}"
    return (
        "kapp compared with its peers, measured and written by `make bench`. All numbers come from "
        f"[rows.csv](rows.csv): medians of {counts} repetitions, with minimum and maximum; a time to an "
        f"accuracy is that of one training. What the notes say besides isn't in rows.csv. Measured on {cpu},"
        f" {date}, commit {commit}, with {versions}, at load averages of {load}."
    )


def _targets(measured: Sequence[Measured], folder: Path) -> list[Block]:
    rows, startups, bars, cached = [], {}, [], ""
    for comparison in COMPARISONS:
        contenders = [each for each in measured if each.benchmark == comparison.name]
        for peer, target in comparison.targets.items() if contenders else ():
            kapp, other = _fastest(contenders, "kapp"), _fastest(contenders, peer)
            speedup = kapp.rate / other.rate  # repetition by repetition
            row = [
                comparison.title,
                _spread(kapp.rate),
                peer,
                _spread(other.rate),
                _spread(speedup, "{:.2f}"),
            ]
            rows.append([*row, f"{target:g}", _yes(np.median(speedup) >= target)])
            bars.append((f"{comparison.title}\ncompared with {peer}", speedup, target))
            for each in (kapp, other):
                epochs = each.startup * np.median(each.rate) / CIFAR10
                startups[each.name] = [each.name, f"{each.startup:.1f} s", _significant(epochs)]
            if comparison.name == "teacher_logits":
                seconds, rate = f"{CIFAR10 / np.median(kapp.rate):,.0f} s", f"{_spread(kapp.rate)} images/s"
                cached = (
                    f"deep_resnet computes the logits of an epoch of CIFAR-10 once, in {seconds}, at {rate}."
                )
    if not rows:
        return []
    figures.speedups(bars, folder / "figures" / "speedups.png")
    columns = ("workload", "kapp, images/s", "peer", "peer, images/s", "speedup", "target", "reached")
    return [
        Heading("Targets"),
        Paragraph(
            "The fastest contender of kapp and of each peer. All contenders are [below](#all-contenders)."
        ),
        _table(columns, rows),
        Figure("figures/speedups.png", "Speedups and their targets"),
        Heading("Startup"),
        Paragraph(f"The same contenders, and the epochs of CIFAR-10 ({CIFAR10:,} images) that take as long."),
        _table(("contender", "startup", "epochs of CIFAR-10"), startups.values()),
        Paragraph(cached),
    ]


def _commands(measured: Sequence[Measured]) -> list[Block]:
    rows = []
    for command in COMMANDS:
        if costs := [each for each in measured if each.benchmark == command.name]:
            first, last = costs[0].seconds, costs[-1].seconds
            title, limit = command.title, command.target
            seconds, target = _spread(last, "{:.2f}"), f"below {limit:g} s"
            if command.target_fraction:
                title += f" ({costs[0].command.split()[-1]})"
                seconds += f"; the first time {_spread(first, '{:.2f}')}"
                target += f", and {command.target_fraction:g} of the first time"
                limit = min(limit, command.target_fraction * np.median(first))
            rows.append([title, seconds, target, _yes(np.median(last) < limit)])
    text = "Each time a new process, from its start to its end."
    table = _table(("command", "seconds", "target", "reached"), rows)
    return [Heading("Commands"), Paragraph(text), table] if rows else []


def _times_to_accuracy(measured: Sequence[Measured], folder: Path) -> list[Block]:
    blocks: list[Block] = []
    for each in TIMES_TO_ACCURACY:
        rows, curves = [], []
        for contender in each.contenders:
            found = [m for m in measured if m.command == contender.command]
            if not found:
                continue
            points = [(m.seconds[0] / 60, float(m.x)) for m in found]
            minutes = [
                next((f"{at:.1f}" for at, best in points if best >= target), "not reached")
                for target in each.targets
            ]
            rows.append([contender.group, found[0].name, *minutes, f"{points[-1][1]:.1%}"])
            curves.append((contender.group, contender.command, points))
        if rows:
            path, title = folder / "figures" / f"{each.name}.png", f"Validation accuracy ({each.title})"
            figures.times_to_accuracy(curves, each.targets, title, path)
            columns = ("", "command", *(f"minutes to {target:.0%}" for target in each.targets), "best")
            figure = Figure(f"figures/{path.name}", f"{title}, by the minutes since the start")
            blocks += [Heading(each.title, 3), figure, _table(columns, rows)]
    text = (
        "Each training once, in a new process. The minutes are from its start to the end of the first epoch "
        "after which the validation images of CIFAR-10 (JPEG copy) have the accuracy."
    )
    return [Heading("Time to accuracy"), Paragraph(text), *blocks] if blocks else []


def _memory(measured: Sequence[Measured]) -> list[Block]:
    if not measured:
        return []
    required, imports, peaks = (
        [(each.command, each.peak_bytes) for each in measured if each.group == group]
        for group in ("required", "imports", "peak")
    )
    total = sum(size for _, size in required)
    minimum = total + sum(size for _, size in imports)
    rows = [*required, ("all that must be stored", total), *imports, ("minimum: both", minimum)]
    rows += [(f"peak of `{command.partition('workloads.')[2]}`", size) for command, size in peaks]
    ratios = " and ".join(f"{size / minimum:.1f}" for _, size in peaks)
    return [
        Heading("Memory"),
        Paragraph(
            f"Distillation on as many random images as CIFAR-10 has. Peaks: {ratios} times the minimum."
        ),
        _table(("what", "MiB"), [[what, _mebibytes(size)] for what, size in rows]),
    ]


def _scaling(measured: Sequence[Measured], folder: Path) -> list[Block]:
    blocks: list[Block] = []
    for each in SCALINGS:
        points = [point for point in measured if point.benchmark == each.name]
        costs = [(m.group, float(m.x), m.seconds if each.unit == "s" else m.rate) for m in points]
        if costs:
            figures.scaling(
                costs, each.title, each.quantity, each.unit, folder / "figures" / f"{each.name}.png"
            )
            rows = [[curve, f"{x:g}", _spread(cost)] for curve, x, cost in costs]
            table = _table(("", each.quantity, each.unit), rows)
            blocks += [Heading(each.title, 3), Figure(f"figures/{each.name}.png", each.title), table]
    return [Heading("Scaling"), *blocks] if blocks else []


def _contenders(measured: Sequence[Measured]) -> list[Block]:
    blocks: list[Block] = []
    columns = ("", "contender", "images/s", "repetition", "busy cores", "peak MiB", "startup")
    for comparison in COMPARISONS:
        rows = []
        for each in measured:
            if each.benchmark == comparison.name:
                cores, memory = f"{each.busy_cores:.1f}", _mebibytes(each.peak_bytes)
                times = (f"{np.median(each.seconds):.1f} s", cores, memory, f"{each.startup:.1f} s")
                rows.append([each.group, each.name, _spread(each.rate), *times])
        blocks += [Heading(comparison.title, 3), _table(columns, rows)] if rows else []
    return [Heading("All contenders"), *blocks] if blocks else []


def _workloads(commands: "pd.Series[str]") -> list[Block]:
    rows = []
    for path in sorted(Path(__file__).parent.glob("workloads/*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any(
                commands.str.contains(f"\\.{path.stem} {node.name} ")
            ):
                rows.append([f"`{path.stem} {node.name}`", " ".join((ast.get_docstring(node) or "").split())])
    return [Heading("Workloads"), _table(("workload", "description"), rows)] if rows else []


def _fastest(measured: Iterable[Measured], group: str) -> Measured:
    return max((each for each in measured if each.group == group), key=lambda each: np.median(each.rate))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    # Its own text, with code.
    return Table([dict(zip(columns, (Markdown(cell.replace("|", "\\|")) for cell in row))) for row in rows])


def _significant(value: float) -> str:
    """Three digits, or all before the point: 2,345, 23.4, 0.0234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _spread(values: np.ndarray, form: str = "") -> str:
    """Median, minimum and maximum."""
    text: Callable[[float], str] = form.format if form else _significant
    return f"{text(np.median(values))} ({text(values.min())} to {text(values.max())})"


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f}"


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"
