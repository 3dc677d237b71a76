"""Stops a training after Ctrl-C."""

from typing import Any

import keras

from kapp import interrupt


class StopOnInterrupt(keras.callbacks.Callback):
    """Raises KeyboardInterrupt at the end of the batch in which Ctrl-C was pressed, within
    `kapp.interrupt.deferred`."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        interrupt.check()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        interrupt.check()
