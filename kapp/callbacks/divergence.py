"""Stops a training whose loss isn't a number any more."""

import math
from typing import Any

import keras

from kapp.errors import Untrainable
from kapp.runs import Run


class Divergence(keras.callbacks.Callback):
    """Raises Untrainable at the first batch whose running loss is NaN or infinite; what earlier epochs left
    in `run` stays as it is."""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            file = self._run.model_file
            kept = f"; the best network so far is {file}" if file.is_file() else ""
            raise Untrainable(
                f"training diverged: the loss is {logs['loss']} at step {batch + 1} of epoch {self._epoch}"
                f"{kept}. Try a lower --learning-rate, or --schedule cosine with --warmup-epochs."
            )
