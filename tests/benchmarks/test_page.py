"""A page from rows: every figure in it is worked out from them."""

import re

import pytest

from benchmarks import page, results
from benchmarks.duel import Taken, Turn
from benchmarks.results import Line
from benchmarks.rows import ROWS
from kapp.errors import Failure

ROW = next(row for row in ROWS if row.name == "linear_3")
eager, compiled = ROW.peers[0].commands


def taken(command, rates, start, peak=3 * 2**30):
    return Taken(command, Turn(start, 1.0, 640, peak), [Turn(640 / rate, 1.0, 640, peak) for rate in rates])


@pytest.fixture
def folder(tmp_path):
    """Rows of a duel, a command, a memory and a growth, whose figures a reader can work out."""
    sides = {
        "ours": [taken(ROW.ours[0], (317, 331, 347), 40), taken(ROW.ours[1], (211, 223, 227), 7)],
        "by_hand": [taken(eager, (101, 103, 107), 11), taken(compiled, (151, 163, 149), 61)],
    }
    rows = {
        "linear_3": [
            line
            for role, its in sides.items()
            for each in its
            for line in results.lines("linear_3", role, each)
        ],
        "help": results.lines(
            "help", "ours", Taken("x", Turn(9, 0, 0, 0), [Turn(s, 0, 0, 0) for s in (0.31, 0.37, 0.41)])
        ),
        "memory": [
            Line("memory", role, what, "", 0, 0.0, 0.0, 0, mebibytes * 2**20)
            for role, what, mebibytes in (
                ("imports", "Keras started", 501),
                ("peak", "a command", 1409),
                ("must", "images", 173),
                ("must", "weights", 41),
            )
        ],
        "growth_batch": [
            line
            for at, rate in ((32, 1013), (128, 2017))
            for line in results.lines("growth_batch", "linear_3", taken(f"x --batch {at}", (rate,), 5), at)
        ],
    }
    for name, lines in rows.items():
        results.replace_row(tmp_path / "rows.csv", name, lines, load=0.25)
    return tmp_path


def cells(text):
    """The rows of all tables, but for their commands and names."""
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_fastest_of_each_is_quoted_with_the_ratio_turn_by_turn(folder):
    text = page.write(folder).read_text()
    (quoted,) = [line for line in cells(text) if ROW.what in line]
    assert "331 (317 to 347)" in quoted
    assert "151 (149 to 163)" in quoted
    assert "2.10x (2.03 to 2.33)" in quoted  # 317/151, 331/163, 347/149
    assert "1.25x" in quoted
    assert quoted.endswith("yes     |")


def test_every_figure_is_worked_out_from_the_rows(folder):
    text = page.write(folder).read_text().partition("## How it was measured")[0]
    numbers = {number for line in cells(text) for number in re.findall(r"\d[\d,]*\.?\d*", uncoded(line))}
    rates = "317 331 347 211 223 227 101 103 107 151 163 149 1,013 2,017".split()
    ratios = "2.10 2.03 2.33 1.25".split()
    of_turns = {f"{640 / rate:.1f}" for rate in (331, 223, 103, 151)}
    one_off = {start - 640 / rate: rate for start, rate in ((40, 331), (7, 223), (11, 103), (61, 151))}
    once = {f"{seconds:.1f}" for seconds in one_off}
    epochs = {f"{seconds * rate / 40_000:#.3g}" for seconds, rate in one_off.items()}
    busy = {f"{rate / 640:.1f}" for rate in (331, 223, 103, 151)}
    memory = {"501", "1,409", "173", "41", "214", "715", "3,072"}
    others = {"0.37", "0.31", "0.41", "0.5", "32", "128"}
    known = {*rates, *ratios, *of_turns, *once, *epochs, *busy, *memory, *others}
    assert numbers <= known
    assert {*rates[:3], *ratios, "0.37", "1,409", "715", "2,017"} <= numbers


def uncoded(line):
    """Without commands and the names of networks, whose numbers were not measured."""
    return re.sub(r"`[^`]*`|linear_3|bfloat16|CIFAR-10", "", line)


def test_other_rows_make_another_page(folder):
    before = page.write(folder).read_text()
    slower = [taken(ROW.ours[0], (111, 113, 109), 40)]
    lines = [line for each in slower for line in results.lines("linear_3", "ours", each)]
    lines += [
        line
        for line in results.read(folder / "rows.csv")
        if line.row == "linear_3" and line.role == "by_hand"
    ]
    results.replace_row(folder / "rows.csv", "linear_3", lines, load=0.25)
    after = page.write(folder).read_text()
    assert "331 (317 to 347)" in before
    assert "331 (317 to 347)" not in after
    (quoted,) = [line for line in cells(after) if ROW.what in line]
    assert "0.73x (0.69 to 0.74)" in quoted  # 111/151, 113/163, 109/149
    assert quoted.endswith("no      |")


def test_figures_and_notes_are_there(folder):
    (folder / "notes.md").write_text("## What could not be reached, and why\n\nNothing.\n")
    text = page.write(folder).read_text()
    assert text.endswith("## What could not be reached, and why\n\nNothing.\n")
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert links == ["figures/ratios.png", "figures/growth_batch.png"]
    assert all((folder / link).stat().st_size > 5000 for link in links)


def test_the_machine_and_each_way_are_told(folder):
    text = page.write(folder).read_text()
    assert "numpy" in text
    assert "load was 0.2." in text
    assert "`torch_loop`" in text
    assert "fused Adam" in text


def test_nothing_measured_is_said(tmp_path):
    with pytest.raises(Failure, match="measure something first"):
        page.write(tmp_path)
