"""Stops a training whose loss isn't a number any more."""

import math
from typing import Any

import keras

from kapp.errors import Untrainable
from kapp.runs import Run


class Divergence(keras.callbacks.Callback):
    """Raises Untrainable at the first batch whose running loss is NaN or infinite, and after an epoch whose
    validation loss is, as when its last step broke the weights; what earlier epochs left in `run` stays."""

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
            file = self._run.model_file
            kept = f"; the best network so far is {file}" if file.is_file() else ""
            raise Untrainable(
                f"training diverged: the loss is {loss} {where} of epoch {self._epoch}"
                f"{kept}. Try a lower --learning-rate, or --schedule cosine with --warmup-epochs."
            )
