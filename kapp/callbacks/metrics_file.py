"""Keeps a run's `metrics.csv`."""

from typing import Any

import keras

from kapp.runs import Run

FIRST = ("loss", "accuracy", "agreement", "val_loss", "val_accuracy", "val_agreement")


class MetricsFile(keras.callbacks.Callback):
    """Writes a row an epoch. A resumed run loses the rows after its checkpoint, and never has one twice.

    Args:
        epochs_a_row: how many times the training images were seen from one row to the next.
    """

    def __init__(self, run: Run, epochs_a_row: float = 1):
        super().__init__()
        self._run, self._epochs_a_row = run, epochs_a_row

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        known = [name for name in FIRST if name in logs]
        names = [*known, *(name for name in logs if name not in known)]
        seen = (epoch + 1) * self._epochs_a_row
        row = {"epoch": int(seen) if seen == int(seen) else seen, **{name: logs[name] for name in names}}
        self._run.write_epochs([*self._run.epochs()[:epoch], row])
