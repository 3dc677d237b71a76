"""The page of what was measured, written from rows.csv alone."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks import duel, figures, results
from benchmarks.commands import COMMANDS, Command, Starts
from benchmarks.duel import Spread, Taken
from benchmarks.growth import GROWTHS, Growth
from benchmarks.results import Line
from benchmarks.rows import ROWS
from kapp.errors import Failure
from kapp.files import make_folder, write_text
from kapp.reporting.page import image, page
from kapp.reporting.tables import markdown

WAYS = Path(__file__).parent / "ways"
Measured = dict[str, list[Line]]  # by row


def write(folder: Path) -> Path:
    """Write README.md and its figures into `folder`, which holds rows.csv and may hold notes.md.

    Raises:
        Failure: nothing was measured yet.
    """
    lines = results.read(folder / "rows.csv")
    if not lines:
        raise Failure(f"{folder / 'rows.csv'} holds no row: measure something first.")
    measured: Measured = {}
    for line in lines:
        measured.setdefault(line.row, []).append(line)
    make_folder(folder / "figures")
    notes = folder / "notes.md"
    parts = [
        "# Performance",
        "kapp beside its peers, in one process tree and in turns: what was to be reached, what was, and what "
        f"it costs. Made by `make bench`; every figure is from [rows.csv](rows.csv). {where(lines)}",
        *table(measured, folder),
        *commands(measured),
        *memory(measured),
        *growth(measured, folder),
        *sides(measured),
        *method(measured),
        *([notes.read_text(encoding="utf-8").strip()] if notes.is_file() else []),
    ]
    write_text(folder / "README.md", page(*parts))
    return folder / "README.md"


def where(lines: Sequence[Line]) -> str:
    """The machine: what is told of it is told of each row."""
    told = {
        name: list(dict.fromkeys(getattr(line, name) for line in lines))
        for name in ("processor", "date", "commit", "versions")
    }
    loads = sorted({f"{line.load:.1f}" for line in lines}, key=float)
    return (
        f"Measured on {' and '.join(told['processor'])}, {listed(told['date'])}, "
        f"commit {listed(told['commit'])}, with {'; '.join(told['versions'])}. As its rows began, the "
        f"machine's load was {' to '.join(loads[:1] + loads[1:][-1:])}."
    )


def table(measured: Measured, folder: Path) -> list[str]:
    """The rows of ways against ways: what is quoted of each."""
    quoted = [
        (row, peer, *quote(measured[row.name], peer.name))
        for row in ROWS
        for peer in row.peers
        if row.name in measured
    ]
    if not quoted:
        return []
    rows, costs, bars = [], [], []
    for row, peer, ours, theirs in quoted:
        ratio = duel.ratio(ours, theirs)
        rows.append(
            {
                "what": row.what,
                "ours, images/s": rate(ours.rate),
                "against": peer.whom,
                "theirs, images/s": rate(theirs.rate),
                "ratio (least to most)": times(ratio),
                "reach": f"{peer.reach:g}x",
                "reached": "yes" if ratio.median >= peer.reach else "no",
            }
        )
        for side in (ours, theirs):
            costs.append(
                {
                    "side": code(side.command),
                    "one-off": f"{side.one_off:.1f} s",
                    "epochs of CIFAR-10": significant(side.one_off_epochs),
                }
            )
        bars.append((f"{row.what}\nagainst {peer.whom}", ratio, peer.reach))
    figures.ratios(bars, folder / "figures" / "ratios.png")
    unique = {cost["side"]: cost for cost in costs}
    return [
        "## What was to be reached",
        "Of several ways of ours and of theirs the fastest is quoted; [all sides](#all-sides) has the rest.",
        markdown(pd.DataFrame(rows)),
        image("The ratios beside what was to be reached", "figures/ratios.png"),
        "## What comes once",
        "The sides quoted above: from the start of the process to the end of its first turn, less what a "
        f"turn takes; and in epochs of CIFAR-10 ({duel.CIFAR10:,} training images) at the side's own rate.",
        markdown(pd.DataFrame(list(unique.values()))),
        *filling(measured),
    ]


def filling(measured: Measured) -> list[str]:
    """What stored answers cost before they save anything."""
    if "filling" not in measured:
        return []
    ours, _ = quote(measured["filling"], "forward_alone")
    needed = duel.CIFAR10 / ours.rate.median
    return [
        "The answers to an epoch's views are asked for once, for all students, seeds and runs: "
        f"{needed:,.0f} s an epoch of CIFAR-10 from deep_resnet, at {rate(ours.rate)} images/s."
    ]


def quote(lines: Sequence[Line], peer: str) -> tuple[Taken, Taken]:
    """The fastest of ours and of the peer's."""
    taken = results.sides(lines)
    ours, theirs = ([its for role, _, its in taken if role == wanted] for wanted in ("ours", peer))
    return duel.best(ours), duel.best(theirs)


def commands(measured: Measured) -> list[str]:
    rows = []
    for each in COMMANDS:
        if each.name not in measured:
            continue
        taken = {role: its for role, _, its in results.sides(measured[each.name])}
        rows.append(_start(each, **taken) if isinstance(each, Starts) else _command(each, **taken))
    if not rows:
        return []
    return [
        "## Commands",
        "Each time a new process, from its start to its end.",
        markdown(pd.DataFrame(rows)),
    ]


def _command(each: Command, ours: Taken) -> dict[str, str]:
    return {
        "what": each.what,
        "seconds (least to most)": seconds(ours.seconds),
        "reach": f"below {each.reach:g} s",
        "reached": "yes" if ours.seconds.median < each.reach else "no",
    }


def _start(each: Starts, first: Taken, second: Taken) -> dict[str, str]:
    most = min(each.reach, each.share * first.seconds.median)
    return {
        "what": f"{each.what} ({second.command.split()[-1]})",
        "seconds (least to most)": f"{seconds(second.seconds)}; the first time {seconds(first.seconds)}",
        "reach": f"below {each.reach:g} s, and {each.share:g} of the first time",
        "reached": "yes" if second.seconds.median < most else "no",
    }


def memory(measured: Measured) -> list[str]:
    if "memory" not in measured:
        return []
    lines = measured["memory"]
    must = sum(line.peak_bytes for line in lines if line.role == "must")
    imports = sum(line.peak_bytes for line in lines if line.role == "imports")
    rows = [
        {"what": line.command, "MiB": mebibytes(line.peak_bytes)} for line in lines if line.role == "must"
    ]
    rows.append({"what": "all that it must hold", "MiB": mebibytes(must)})
    rows += [
        {"what": line.command, "MiB": mebibytes(line.peak_bytes)} for line in lines if line.role == "imports"
    ]
    rows.append({"what": "the floor: both", "MiB": mebibytes(must + imports)})
    rows += [
        {"what": f"peak of {code(line.command)}", "MiB": mebibytes(line.peak_bytes)}
        for line in lines
        if line.role == "peak"
    ]
    peaks = [line.peak_bytes for line in lines if line.role == "peak"]
    return [
        "## Memory",
        "Distilling on as many random images as CIFAR-10 has. The first peak is with all training images, to "
        "which a narrow teacher answers; the second with few of them, to which a whole one does.",
        markdown(pd.DataFrame(rows)),
        f"The peaks are {' and '.join(f'{peak / (must + imports):.1f}' for peak in peaks)} times the floor.",
    ]


def growth(measured: Measured, folder: Path) -> list[str]:
    found = [each for each in GROWTHS if each.name in measured]
    if not found:
        return []
    parts = ["## How the cost grows"]
    for each in found:
        curves: figures.Curves = {}
        for curve, at, taken in results.sides(measured[each.name]):
            curves.setdefault(curve, []).append((float(at), cost(each, taken)))
        figures.growth(curves, each.title, each.quantity, each.cost, folder / "figures" / f"{each.name}.png")
        rows = [
            {"": curve, each.quantity: f"{at:g}", f"{each.cost} (least to most)": rate(its)}
            for curve, points in curves.items()
            for at, its in points
        ]
        parts += [
            f"### {each.title}",
            image(each.title, f"figures/{each.name}.png"),
            markdown(pd.DataFrame(rows)),
        ]
    return parts


def cost(each: Growth, taken: Taken) -> Spread:
    return taken.seconds if each.cost == "s" else taken.rate


def sides(measured: Measured) -> list[str]:
    """All sides of the duels."""
    parts = []
    for row in ROWS:
        if row.name not in measured:
            continue
        rows = [
            {
                "": role.replace("_", " "),
                "side": code(taken.command),
                "images/s (least to most)": rate(taken.rate),
                "a turn": f"{taken.seconds.median:.1f} s",
                "busy cores": f"{taken.busy_cores:.1f}",
                "peak MiB": mebibytes(taken.peak_bytes),
                "one-off": f"{taken.one_off:.1f} s",
            }
            for role, _, taken in results.sides(measured[row.name])
        ]
        parts += [f"### {row.what}", markdown(pd.DataFrame(rows))]
    return ["## All sides", *parts] if parts else []


def method(measured: Measured) -> list[str]:
    counts = [
        len(taken.turns) for lines in measured.values() for _, _, taken in results.sides(lines) if taken.turns
    ]
    turns = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    found = [line.command for lines in measured.values() for line in lines]
    named = [
        path for path in sorted(WAYS.glob("*.py")) if any(f"ways.{path.stem} " in each for each in found)
    ]
    settings = [{"way": f"`{path.stem}`", "what it is": described(path)} for path in named]
    return [
        "## How it was measured",
        "Each side is a process of its own, started one after another. It does one turn to warm up and then, "
        f"after a step that isn't counted, one whenever it's told to, A B A B ..., {turns} each; the others "
        "wait meanwhile. Figures are medians over the turns, with the least and the most; ratios are taken "
        "turn by turn, then their "
        "median. Images are random, of CIFAR-10's shape, in batches of 128 where no other size is given. "
        "`KERAS_BACKEND=... python -m benchmarks.ways.WAY` runs a side alone, and `--help` says what its "
        "flags stand for.",
        *([markdown(pd.DataFrame(settings))] if settings else []),
    ]


def described(way: Path) -> str:
    """The prose of a module's docstring, without its indented commands."""
    text = ast.get_docstring(ast.parse(way.read_text(encoding="utf-8")), clean=False) or ""
    kept = [part for part in text.split("\n\n") if not part.startswith("    ")]
    return " ".join(" ".join(kept).split())


def code(command: str) -> str:
    return f"`{command.replace('python -m benchmarks.ways.', '')}`"


def listed(words: Sequence[str]) -> str:
    return ", ".join(word for word in words if word)


def rate(each: Spread) -> str:
    return f"{significant(each.median)} ({significant(each.least)} to {significant(each.most)})"


def times(each: Spread) -> str:
    return f"{each.median:.2f}x ({each.least:.2f} to {each.most:.2f})"


def seconds(each: Spread) -> str:
    return f"{each.median:.2f} ({each.least:.2f} to {each.most:.2f})"


def significant(value: float) -> str:
    """Three digits or all before the point: 2,345, 23.4, 0.0234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f}"
