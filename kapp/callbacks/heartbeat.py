"""Signals to another process that this one is computing."""

from typing import Any

import keras

from kapp.progress import beat


class Heartbeat(keras.callbacks.Callback):
    """Calls `kapp.progress.beat` after each batch of a training, a validation or a prediction."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        beat()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        beat()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        beat()
