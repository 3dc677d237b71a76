"""Adds to an epoch's logs what it took."""

import time
from typing import Any

import keras


class Speed(keras.callbacks.Callback):
    """Adds learning_rate, images_per_second (training alone) and seconds (with validation) to the logs
    that the callbacks after it see.

    Args:
        images: how many an epoch trains on.
    """

    def __init__(self, images: int):
        super().__init__()
        self._images = images

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()
        self._rate = float(self.model.optimizer.learning_rate)  # of the first step
        self._trained: float | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        end = time.perf_counter()
        logs["learning_rate"] = self._rate
        logs["images_per_second"] = self._images / ((self._trained or end) - self._start)
        logs["seconds"] = end - self._start
