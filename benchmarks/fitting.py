"""Keras's `fit`, timed to the end of its last epoch."""

import time
from typing import Any

import keras


def fit(model: keras.Model, *data: Any, **how: Any) -> float:
    """The seconds that `model.fit` trains for. TensorFlow then waits for the thread that tunes tf.data, which
    sleeps ever longer: as long again as the training, in the worst case. That comes once a `fit` and not once
    an epoch, and would be most of a turn."""
    started = time.perf_counter()
    ended = _Ended()
    model.fit(*data, **how, callbacks=[ended])
    return ended.at - started


class _Ended(keras.callbacks.Callback):
    def on_train_end(self, logs: Any = None) -> None:
        self.at = time.perf_counter()
