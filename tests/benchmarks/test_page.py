"""A page from known rows: every number on it is computed from them."""

import re

import pytest

from benchmarks import page, results
from benchmarks.results import Contender, Repetition
from benchmarks.suite import COMPARISONS, TIMES_TO_ACCURACY
from kapp.errors import KappError

COMPARISON = next(each for each in COMPARISONS if each.name == "linear_3")
KAPP = [each for each in COMPARISON.contenders if each.group == "kapp"]
EAGER, COMPILED = (each for each in COMPARISON.contenders if each.group != "kapp")
CONDITIONS = ["2026-11-24", "c0ffee", "a CPU", "numpy 2", "0.25"]


def costs(rates, start, peak=3 * 2**30):
    return [Repetition(start, 1.0, 640, peak), *(Repetition(640 / rate, 1.0, 640, peak) for rate in rates)]


PEERS = {EAGER: costs((101, 103, 107), 11), COMPILED: costs((151, 163, 149), 61)}


@pytest.fixture
def folder(tmp_path):
    """Rows of a comparison, a command, memory and a scaling benchmark, easy to check."""
    sizes = {
        Contender("imports", "Keras started"): 501,
        Contender("peak", "a command"): 1409,
        Contender("required", "images"): 173,
        Contender("required", "weights"): 41,
    }
    benchmarks = {
        "linear_3": {
            KAPP[0]: costs((317, 331, 347), 40),
            KAPP[1]: costs((211, 223, 227), 7),
            **PEERS,
        },
        "help": {Contender("kapp", "x"): [Repetition(each) for each in (9, 0.31, 0.37, 0.41)]},
        "memory": {each: [Repetition(0.0, peak_bytes=mib * 2**20)] for each, mib in sizes.items()},
        "scaling_batch": {
            Contender("linear_3", f"x --batch-size {x}", str(x)): costs((rate,), 5)
            for x, rate in ((32, 1013), (128, 2017))
        },
    }
    for name, measured in benchmarks.items():
        results.replace(tmp_path / "rows.csv", name, measured, CONDITIONS)
    return tmp_path


def table_rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_fastest_contenders_are_quoted_with_their_speedup(folder):
    text = page.write(folder).read_text()
    (row,) = [line for line in table_rows(text) if COMPARISON.title in line]
    assert "331 (317 to 347)" in row
    assert "151 (149 to 163)" in row
    assert "2.10 (2.03 to 2.33)" in row  # 317/151, 331/163, 347/149
    assert "1.25" in row
    assert row.endswith("yes     |")


def test_every_number_is_computed_from_the_rows(folder):
    text = page.write(folder).read_text().partition("## Workloads")[0]
    numbers = {
        each for line in table_rows(text) for each in re.findall(r"\d[\d,]*\.?\d*", without_names(line))
    }
    rates = "317 331 347 211 223 227 101 103 107 151 163 149 1,013 2,017".split()
    speedups = "2.10 2.03 2.33 1.25".split()
    seconds = {f"{640 / rate:.1f}" for rate in (331, 223, 103, 151)}
    startup = {start - 640 / rate: rate for start, rate in ((40, 331), (7, 223), (11, 103), (61, 151))}
    startups = {f"{seconds:.1f}" for seconds in startup}
    epochs = {f"{seconds * rate / 40_000:#.3g}" for seconds, rate in startup.items()}
    busy = {f"{rate / 640:.1f}" for rate in (331, 223, 103, 151)}
    memory = {"501", "1,409", "173", "41", "214", "715", "3,072"}
    others = {"0.37", "0.31", "0.41", "0.5", "32", "128"}
    assert numbers <= {*rates, *speedups, *seconds, *startups, *epochs, *busy, *memory, *others}
    assert {*rates[:3], *speedups, "0.37", "1,409", "715", "2,017"} <= numbers
    assert "2.0 times the minimum" in text  # 1409/715


def without_names(line):
    """`line` without commands and names, whose numbers aren't measured."""
    return re.sub(r"`[^`]*`|linear_3|bfloat16|CIFAR-10", "", line)


def test_minutes_to_an_accuracy_are_those_of_the_first_epoch_that_has_it(tmp_path):
    times = next(each for each in TIMES_TO_ACCURACY if each.name == "time_to_accuracy_linear_3")
    kapp, *_, keras = times.contenders
    curves = {kapp: {"0.4100": 66, "0.6000": 378, "0.6630": 1266}, keras: {"0.3300": 120, "0.6049": 1020}}
    costs = {
        contender._replace(x=x): [Repetition(seconds)]
        for contender, points in curves.items()
        for x, seconds in points.items()
    }
    results.replace(tmp_path / "rows.csv", times.name, costs, CONDITIONS)
    text = page.write(tmp_path).read_text()
    cells = [
        [cell.strip() for cell in line.split("|")[3:-1]]
        for line in table_rows(text)[:4]
        if "linear_3" in line
    ]
    assert cells == [["6.3", "21.1", "66.3%"], ["17.0", "not reached", "60.5%"]]
    assert (tmp_path / "figures" / f"{times.name}.png").is_file()


def test_new_rows_change_the_page(folder):
    before = page.write(folder).read_text()
    slower = {KAPP[0]: costs((111, 113, 109), 40), **PEERS}
    results.replace(folder / "rows.csv", "linear_3", slower, CONDITIONS)
    after = page.write(folder).read_text()
    assert "331 (317 to 347)" in before
    assert "331 (317 to 347)" not in after
    (row,) = [line for line in table_rows(after) if COMPARISON.title in line]
    assert "0.73 (0.69 to 0.74)" in row  # 111/151, 113/163, 109/149
    assert row.endswith("no      |")


def test_the_second_start_must_be_faster_than_the_first(tmp_path):
    command = "start 1 train --dataset shapes"
    for second, reached in ((7.0, "yes"), (8.0, "no")):
        measured = {
            Contender("first", command): [Repetition(10.0)] * 3,
            Contender("second", command): [Repetition(second)] * 3,
        }
        results.replace(tmp_path / "rows.csv", "startup", measured, CONDITIONS)
        (row,) = [line for line in table_rows(page.write(tmp_path).read_text()) if "(shapes)" in line]
        assert f"{second:.2f} ({second:.2f} to {second:.2f}); the first time 10.00" in row
        assert row.rstrip(" |").endswith(reached)


def test_the_page_has_its_figures_and_the_notes(folder):
    (folder / "notes.md").write_text("## Missed targets\n\nNone.\n")
    text = page.write(folder).read_text()
    assert text.endswith("## Missed targets\n\nNone.\n")
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert links == ["figures/speedups.png", "figures/scaling_batch.png"]
    assert all((folder / link).stat().st_size > 5000 for link in links)


def test_the_page_names_the_machine_and_describes_the_workloads(folder):
    text = page.write(folder).read_text()
    assert "a CPU, 2026-11-24, commit c0ffee, with numpy 2, at load averages of 0.2 to 0.2" in text
    assert "medians of 1 to 3 repetitions" in text
    assert "`torch fit`" in text
    assert "fused Adam" in text
    assert "`keras fit`" not in text  # no row of it


def test_a_page_needs_rows(tmp_path):
    with pytest.raises(KappError, match="measure something first"):
        page.write(tmp_path)
