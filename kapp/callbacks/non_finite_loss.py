"""Stops a training whose loss is NaN or infinite."""

import math
from typing import Any

import keras

from kapp.callbacks.failure import training_failed
from kapp.run_folder import Run


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises TrainingFailed after the first batch whose running loss is NaN or infinite, and after an epoch
    whose validation loss is, as when the last step broke the weights. The files of earlier epochs stay.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Run):
        super().__init__()
        self._run = run
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check(logs["loss"], f"at step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check(logs["val_loss"], "on validation images at the end")

    def _check(self, loss: float, where: str) -> None:
        if not math.isfinite(loss):
            raise training_failed(
                f"training diverged: the loss is {loss} {where} of epoch {self._epoch}", self._run
            )
