"""Prints the progress of a training."""

import sys
import time
from statistics import mean
from typing import Any, TextIO

import keras

from kapp.progress import duration


class Progress(keras.callbacks.Callback):
    """Prints a line per row of the metrics, with the time left; on a terminal also the way to the next line.

    Args:
        rows: the number of the last row.
        steps: steps per row.
        title: the start of every line.
        stream: standard error by default.
        epochs_per_row: as for `MetricsCSV`.
    """

    def __init__(
        self, rows: int, steps: int, title: str, stream: TextIO | None = None, epochs_per_row: float = 1
    ):
        super().__init__()
        self._rows, self._steps, self._title, self._epochs_per_row = rows, steps, title, epochs_per_row
        self._stream = stream or sys.stderr
        self._row_seconds: list[float] = []
        self._printed = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if self._stream.isatty() and now - self._printed > 0.5:
            self._printed = now
            self._write(f"\r\033[K{self._title}  {(batch + 1) / self._steps:.0%} of the way to the next line")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._row_seconds += [logs["seconds"]]  # of a resumed row, those before are in it
        left = mean(self._row_seconds) * (self._rows - epoch - 1)
        clear = "\r\033[K" if self._stream.isatty() else ""
        done, total = (f"{rows * self._epochs_per_row:.4g}" for rows in (epoch + 1, self._rows))
        self._write(
            f"{clear}{self._title}  epoch {done}/{total}"
            f"  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.1%}"
            f"  val_loss {logs['val_loss']:.4f}  val_accuracy {logs['val_accuracy']:.1%}"
            f"  {logs['images_per_second']:,.0f} images/s  {logs['seconds']:.1f} s, {duration(left)} left\n"
        )

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
