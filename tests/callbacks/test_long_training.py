"""The line that a long training prints after its first steps, on a clock of the test's own."""

import io

import pytest

from kapp import cli
from kapp.callbacks import long_training
from kapp.callbacks.long_training import LongTraining


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(long_training, "time", clock)
    monkeypatch.setattr(cli, "command_line", ["train", "--model", "teacher_1"])
    return clock


def train(clock, step_seconds: float, rows: int, steps: int, first_row: int = 0, first_step: float = 60.0):
    """Train with steps of this length, after a first one that compiles; what was printed."""
    stream = io.StringIO()
    notice = LongTraining(rows, steps, 32, "teacher_1", stream)
    for row in range(first_row, rows):
        notice.on_epoch_begin(row)
        for step in range(steps):
            clock.now += first_step if row == first_row and step == 0 else step_seconds
            notice.on_train_batch_end(step)
        notice.on_epoch_end(row)
    return stream.getvalue()


def test_the_line_of_a_long_training(clock):
    # 10 rows of 1,000 steps of 2 seconds, without those that were done when it was printed.
    assert train(clock, 2.0, rows=10, steps=1000) == (
        "teacher_1: about 5 h 33 min left at 16 images/s. "
        "With fewer epochs: kapp train --model teacher_1 --scale short\n"
    )


def test_a_training_of_less_than_an_hour_prints_nothing(clock):
    assert train(clock, 2.0, rows=10, steps=170) == ""  # the first step took a minute


def test_steps_that_are_done_do_not_count(clock):
    assert train(clock, 2.0, rows=10, steps=1000, first_row=9) == ""
    assert "left at" in train(clock, 2.0, rows=10, steps=1000, first_row=7)


def test_short_rows_are_measured_until_the_first_ends(clock):
    assert train(clock, 0.1, rows=1, steps=20) == ""
    assert "about 2 h 47 min left" in train(clock, 0.1, rows=10_000, steps=10)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("train --model conv_1", "kapp train --model conv_1 --scale short"),
        ("distill --scale paper --seed 1", "kapp distill --seed 1 --scale short"),
        ("transfer --scale=paper", "kapp transfer --scale short"),
        ("sweep train --model linear_3", "kapp sweep train --model linear_3 --scale short"),
        ("train --scale short", None),
        ("train --scale=small", None),
        ("train --epochs 5", None),
        ("train --config runs/mine/config.json", None),
        ("reproduce --seeds 3", None),
        ("reproduce --scale paper --table hu:3", "kapp reproduce --table hu:3 --scale short"),
        ("", None),
    ],
)
def test_the_shorter_command(words, command, monkeypatch):
    monkeypatch.setattr(cli, "command_line", words.split())
    assert cli.shorter_command() == command


def test_words_with_spaces_stay_together(monkeypatch):
    monkeypatch.setattr(cli, "command_line", ["train", "--dataset", "npz:my files/a.npz"])
    assert cli.shorter_command() == "kapp train --dataset 'npz:my files/a.npz' --scale short"
