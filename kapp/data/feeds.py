"""What `fit` is fed: batches of indices, {"sample": int32 (batch,), "view": int32 (batch,)}."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kapp.data import epochs
from kapp.data.epochs import Views


def training(samples: np.ndarray, batch_size: int, *, seed: int, views: Views, first_epoch: int = 0) -> Any:
    """Every epoch from `first_epoch` on, as the epoch table of `seed` orders and shows `samples`.

    Batches are whole: what is left of an epoch over `batch_size` isn't shown in it (another order
    leaves out others), so that the step is compiled for one shape. Feed it with
    `steps_per_epoch=len(samples) // batch_size` and `shuffle=False`.
    """

    def epoch(number: int) -> tuple[np.ndarray, np.ndarray]:
        shown = epochs.table(seed, number, len(samples), views)
        return samples[shown.order], shown.view

    if keras.backend.backend() == "tensorflow":
        return _tf_data(epoch, len(samples), batch_size, first_epoch)
    return _Batches(epoch, len(samples) // batch_size, batch_size, first_epoch)


def scoring(samples: np.ndarray, batch_size: int, views: Views) -> Any:
    """`samples` once, in their order, each as it is."""
    view = np.full(len(samples), views.identity, np.int32)
    steps = -(-len(samples) // batch_size)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensor_slices({"sample": samples, "view": view})
        return batches.batch(batch_size).map(lambda batch: (batch,)).prefetch(2)
    return _Batches(lambda _: (samples, view), steps, batch_size)


def _tf_data(epoch, count: int, batch_size: int, first_epoch: int) -> Any:
    import tensorflow as tf

    def tables() -> Iterator[dict[str, np.ndarray]]:
        number = first_epoch
        while True:
            sample, view = epoch(number)
            yield {"sample": sample, "view": view}
            number += 1

    signature = {key: tf.TensorSpec((count,), tf.int32) for key in ("sample", "view")}
    shown = tf.data.Dataset.from_generator(tables, output_signature=signature)
    batches = shown.flat_map(
        lambda table: tf.data.Dataset.from_tensor_slices(table).batch(batch_size, drop_remainder=True)
    )
    return batches.map(lambda batch: (batch,)).prefetch(2)


class _Batches(keras.utils.PyDataset):
    """Batches of a table that is made anew each epoch."""

    def __init__(self, epoch, steps: int, batch_size: int, first_epoch: int = 0):
        super().__init__()
        self._epoch, self._steps, self._batch_size = epoch, steps, batch_size
        self._number = first_epoch
        self._table = epoch(first_epoch)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        part = slice(index * self._batch_size, (index + 1) * self._batch_size)
        sample, view = self._table
        return ({"sample": sample[part], "view": view[part]},)

    def on_epoch_end(self) -> None:
        self._number += 1
        self._table = self._epoch(self._number)
