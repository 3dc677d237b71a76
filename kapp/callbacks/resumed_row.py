"""Runs the callbacks of a training that resumes between two rows of the metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import keras


class ResumedRow(keras.callbacks.CallbackList):
    """Callbacks of a `fit` over the rest of a row: for them, the row's first steps are in it.

    Args:
        callbacks: those of the training.
        steps: how many steps of the row were done before.
        restore_metrics: sets the running means of these steps, after Keras has reset them.
        model: that is trained.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        steps: int,
        restore_metrics: Callable[[], None],
        model: keras.Model,
    ):
        super().__init__(list(callbacks), add_history=True, model=model)
        self._steps, self._restore_metrics = steps, restore_metrics

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._restore_metrics()
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_begin(self._steps + batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(self._steps + batch, logs)
