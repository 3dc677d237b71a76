import os
from pathlib import Path

import pytest

from benchmarks import duel
from benchmarks.duel import Taken, Turn
from kapp.errors import Failure

ROOT = Path(__file__).parents[2]
SIDE = """
import sys
from benchmarks.turns import serve

name, log, dies = sys.argv[1:]
turns = []

def turn():
    turns.append(name)
    if len(turns) == int(dies):
        print("what a framework prints")
        sys.exit("no room left")
    with open(log, "a") as file:
        file.write(name)

serve(turn, images=100)
"""


@pytest.fixture
def side(tmp_path):
    """The command of a side that writes its name into a log, and dies in its turn number `dies`."""
    path = tmp_path / "side.py"
    path.write_text(SIDE)
    return lambda name, dies=0: f"PYTHONPATH={ROOT} python {path} {name} {tmp_path / 'log'} {dies}"


def test_sides_take_strict_turns(side, tmp_path):
    said = []
    taken = duel.measure([side("A"), side("B"), side("C")], turns=4, say=said.append)
    assert (tmp_path / "log").read_text() == "ABC" * 5  # the first of each warms up
    assert [len(its.turns) for its in taken] == [4, 4, 4]
    assert all(turn.images == 100 and turn.peak_bytes > 1e6 for its in taken for turn in its.turns)
    assert all(its.start.seconds > its.turns[0].seconds for its in taken)  # it has the process's start in it
    assert len(said) == 3


def test_sides_that_start_at_once_take_turns_all_the_same(side, tmp_path):
    duel.measure([side("A"), side("B")], turns=3, say=lambda line: None, at_once=True)
    log = (tmp_path / "log").read_text()
    assert sorted(log[:2]) == ["A", "B"]
    assert log[2:] == "AB" * 3


@pytest.mark.parametrize("dies", [1, 3])
def test_a_side_that_dies_is_named_with_its_last_words(side, dies):
    with pytest.raises(Failure, match="no room left") as caught:
        duel.measure([side("A"), side("B", dies)], turns=5, say=lambda line: None)
    assert "status 1" in str(caught.value)
    assert side("B", dies) in str(caught.value)
    assert "what a framework prints" in str(caught.value)


def test_whatever_happens_no_process_is_left(side, tmp_path):
    sides = []

    class Noted(duel.Side):
        def __init__(self, command):
            super().__init__(command)
            sides.append(self._process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duel, "Side", Noted)

        def interrupted(line):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            duel.measure([side("A")], turns=5, say=interrupted)
    assert len(sides) == 1
    assert sides[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(sides[0].pid, 0)


def taken(*seconds, start=10.0, images=100):
    return Taken("x", Turn(start, 1.0, images, 1), [Turn(each, 2 * each, images, 5) for each in seconds])


def test_medians_and_ratios_are_turn_by_turn():
    ours, theirs = taken(1, 2, 4), taken(3, 2, 10)
    assert ours.rate == (50, 25, 100)
    assert duel.ratio(ours, theirs) == (2.5, 1, 3)
    assert duel.best([theirs, ours]) is ours
    assert ours.busy_cores == 2
    assert ours.peak_bytes == 5


def test_one_off_costs_are_what_the_first_turn_took_more():
    its = taken(1, 2, 4, start=12.0)
    assert its.one_off == 10
    assert its.one_off_epochs == 10 * 50 / 40_000
    assert taken(1, start=0.5).one_off == 0


def test_variables_come_first_in_a_command():
    words, environment = duel.parse("KERAS_BACKEND=jax python -m x 'a b' c=d")
    assert words[1:] == ["-m", "x", "a b", "c=d"]
    assert environment["KERAS_BACKEND"] == "jax"
    assert "c" not in environment
