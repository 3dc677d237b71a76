"""Prints early that a training takes more than an hour."""

import sys
import time
from typing import Any, TextIO

import keras

from kapp import cli
from kapp.progress import duration

LIMIT = 3600.0  # seconds
SKIPPED_STEPS = 2  # they compile
SECONDS, STEPS = 5.0, 5  # to measure for, at least


class LongTraining(keras.callbacks.Callback):
    """Prints once how long the training will take, if that is more than an hour, and the command that takes a
    tenth of it.

    Args:
        rows: the number of the last row of the metrics.
        steps: steps per row.
        batch_size: images per step.
        title: the start of the line.
        stream: standard error by default.
        limit: seconds from which on to print.
    """

    def __init__(
        self,
        rows: int,
        steps: int,
        batch_size: int,
        title: str,
        stream: TextIO | None = None,
        limit: float = LIMIT,
    ):
        super().__init__()
        self._rows, self._steps, self._batch_size, self._title = rows, steps, batch_size, title
        self._stream, self._limit = stream or sys.stderr, limit
        self._seen = 0
        self._is_done = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._rows_left = self._rows - epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._is_done:
            return
        self._seen, self._now = self._seen + 1, time.perf_counter()
        if self._seen == SKIPPED_STEPS:
            self._start = self._now
        elif self._seen >= SKIPPED_STEPS + STEPS and self._now - self._start >= SECONDS:
            self._print(self._rows_left * self._steps - batch - 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._is_done and self._seen > SKIPPED_STEPS:
            self._print((self._rows_left - 1) * self._steps)
        self._is_done = True  # each row has the time that is left

    def _print(self, steps_left: int) -> None:
        self._is_done = True
        step_seconds = (self._now - self._start) / (self._seen - SKIPPED_STEPS)
        seconds = step_seconds * steps_left
        if seconds <= self._limit:
            return
        rate = self._batch_size / step_seconds
        line = f"{self._title}: about {duration(seconds)} left at {rate:,.0f} images/s."
        if command := cli.shorter_command():
            line += f" With fewer epochs: {command}"
        clear = "\r\033[K" if self._stream.isatty() else ""
        self._stream.write(f"{clear}{line}\n")
        self._stream.flush()
