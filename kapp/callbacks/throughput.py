"""Adds the time and the speed of an epoch to its logs."""

import time
from typing import Any

import keras

from kapp.run_folder import BegunRow


class Throughput(keras.callbacks.Callback):
    """Adds learning_rate, images_per_second (of training alone) and seconds (with validation) to the logs of
    the callbacks after it.

    Args:
        images: training images per epoch.
    """

    def __init__(self, images: int):
        super().__init__()
        self._images = images
        self._begun: BegunRow | None = None

    def resume(self, begun: BegunRow) -> None:
        """Count `begun`, which an earlier process trained, as a part of the next epoch."""
        self._begun = begun

    def begun(self, steps: int) -> BegunRow:
        """The epoch so far, with `steps` steps."""
        return BegunRow(steps, time.perf_counter() - self._start, self._learning_rate)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()
        self._learning_rate = float(self.model.optimizer.learning_rate)  # of the first step
        if self._begun is not None:
            self._start, self._learning_rate = self._start - self._begun.seconds, self._begun.learning_rate
            self._begun = None
        self._train_end: float | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        self._train_end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        end = time.perf_counter()
        logs["learning_rate"] = self._learning_rate
        logs["images_per_second"] = self._images / ((self._train_end or end) - self._start)
        logs["seconds"] = end - self._start
