"""Writes `metrics.csv`."""

from typing import Any

import keras

from kapp.run_folder import Run

FIRST = ("loss", "accuracy", "agreement", "val_loss", "val_accuracy", "val_agreement")


class MetricsCSV(keras.callbacks.Callback):
    """Writes a row per validation, which Keras calls an epoch. A resumed run replaces the rows after
    its checkpoint.

    Args:
        run: the run folder.
        epochs_per_row: the number of passes over the training images in what Keras calls an epoch.
    """

    def __init__(self, run: Run, epochs_per_row: float = 1):
        super().__init__()
        self._run, self._epochs_per_row = run, epochs_per_row

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        first = [name for name in FIRST if name in logs]
        names = [*first, *(name for name in logs if name not in first)]
        passes = round((epoch + 1) * self._epochs_per_row, 9)  # not 0.30000000000000004
        row = {
            "epoch": int(passes) if passes == int(passes) else passes,
            **{name: logs[name] for name in names},
        }
        self._run.write_metrics([*self._run.metrics_rows()[:epoch], row])
