import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import commands, experiments, growth, memory, rows
from benchmarks.__main__ import main, measure
from benchmarks.duel import parse
from benchmarks.results import read
from kapp.errors import Failure

ROOT = Path(__file__).parents[2]


def every_command():
    for row in rows.ROWS:
        yield from row.commands
    for each in growth.GROWTHS:
        for points in each.curves.values():
            yield from points.values()


def test_names_are_unique_and_every_way_is_a_module():
    names = [each.name for each in experiments.ALL]
    assert len(set(names)) == len(names)
    for command in every_command():
        words, _ = parse(command)
        assert words[1] == "-m"
        assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file()


def test_no_side_stands_twice_in_a_duel():
    for row in rows.ROWS:
        assert len(row.commands) == len(row.ours) + sum(len(peer.commands) for peer in row.peers)


def test_an_unknown_name_is_refused_with_the_nearest(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "linear_4"])
    assert main() == 2
    assert "linear_3" in capsys.readouterr().err


def test_a_row_that_fails_is_said_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    class Fails:
        name, sides = "fails", 1

        def measure(self, turns, say):
            raise Failure("this side died")

    quick = commands.Command("quick", "a quick one", "python -c 'print(1)'", 0, 0.5)
    monkeypatch.setattr(experiments, "ALL", (Fails(), quick))
    assert measure([], turns=2, out=tmp_path) == 1
    assert "fails failed: this side died" in capsys.readouterr().err
    assert [(line.row, line.turn) for line in read(tmp_path / "rows.csv")] == [
        ("quick", 0),
        ("quick", 1),
        ("quick", 2),
    ]


def test_a_command_with_another_status_fails():
    with pytest.raises(Failure, match=r"status 3.*\nno room"):
        commands.timed("python -c 'import sys; print(\"no room\", file=sys.stderr); sys.exit(3)'")


def test_help_imports_neither_keras_nor_a_backend():
    words = [sys.executable, "-X", "importtime", "-m", "benchmarks", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert not any(f"| {name}\n" in done.stderr for name in ("keras", "tensorflow", "torch", "pandas"))


@pytest.mark.slow  # six processes with Keras in them
def test_memory_tells_peaks_and_what_must_be_held(monkeypatch):
    monkeypatch.setattr(memory, "TRAIN", 1400)
    monkeypatch.setattr(memory, "TEST", 100)
    monkeypatch.setattr(memory, "TEACHER", "4c-gap-10fc")
    lines = memory.Memory().measure(1, lambda line: None)
    held = {
        role: [line.peak_bytes for line in lines if line.role == role] for role in ("imports", "peak", "must")
    }
    assert [len(sizes) for sizes in held.values()] == [1, 2, 4]
    assert held["must"][0] == 1500 * (32 * 32 * 3 + 4)
    assert min(held["peak"]) > held["imports"][0] + held["must"][2]


@pytest.mark.slow  # four processes that train
def test_a_second_start_finds_what_the_first_left():
    lines = commands.Starts().measure(1, lambda line: None)
    assert [(line.role, line.turn) for line in lines] == [
        ("first", 0),
        ("first", 1),
        ("second", 0),
        ("second", 1),
    ]
