"""Has stored answers ready when an epoch of the training images begins."""

from typing import Any

import keras
import numpy as np

from kapp.data import Views, epochs


class EpochAnswers(keras.callbacks.Callback):
    """Makes the model look up its teachers' answers to the views that the epoch table shows next, all of an
    epoch at once; those that are missing are computed then.

    Args:
        samples, batch_size, seed, views: as for `kapp.data.feeds.training`.
        steps: in what Keras calls an epoch, which need not be one of the images.
    """

    def __init__(self, samples: np.ndarray, batch_size: int, *, seed: int, views: Views, steps: int):
        super().__init__()
        self._samples, self._batch_size, self._seed, self._views = samples, batch_size, seed, views
        self._steps = steps
        self._held = -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._first = epoch * self._steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        in_epoch = len(self._samples) // self._batch_size
        epoch = (self._first + batch) // in_epoch
        if epoch != self._held:
            order, view = epochs.table(self._seed, epoch, len(self._samples), self._views)
            shown = slice(in_epoch * self._batch_size)
            self.model.look_up(self._samples[order[shown]], view[shown])
            self._held = epoch
