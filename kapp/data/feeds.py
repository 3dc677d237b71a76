"""What `fit` is fed: batches of indices, {"sample": int32 (batch,), "view": int32 (batch,)}, to which
"image", uint8 (batch, height, width, channels), comes where the images don't lie where the compute is."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from kapp.data import epochs
from kapp.data.epochs import Views

Table = tuple[np.ndarray, np.ndarray]  # samples and their views, in the order of an epoch
Images = np.ndarray | None  # uint8 (n, height, width, channels), of which each batch brings what it shows


def training(
    samples: np.ndarray,
    batch_size: int,
    *,
    seed: int,
    views: Views,
    first_step: int = 0,
    images: Images = None,
) -> Any:
    """The batches of every epoch of `samples`, from number `first_step` on and without end, as the epoch
    table of `seed` shows them.

    Batches are whole: what is left of an epoch over `batch_size` isn't shown in it (another order
    leaves out others), so that the step is compiled for one shape. Feed it to `fit` with
    `steps_per_epoch`, such as len(samples) // batch_size, and `shuffle=False`.

    Args:
        images: all of them, memory-mapped or not, where each batch is to bring its own.
    """

    def epoch(number: int) -> Table:
        shown = epochs.table(seed, number, len(samples), views)
        return samples[shown.order], shown.view

    if keras.backend.backend() == "tensorflow":
        return _tf_data(_endless(epoch, len(samples), batch_size, first_step), images)
    return _Endless(epoch, len(samples) // batch_size, batch_size, first_step, images)


def scoring(samples: np.ndarray, batch_size: int, views: Views, images: Images = None) -> Any:
    """`samples` once, in their order, each as it is."""
    table = samples, _identity(samples, views)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return _tf_data(tf.data.Dataset.from_tensor_slices(_named(*table)).batch(batch_size), images)
    return _Once(table, batch_size, images)


def indices(samples: np.ndarray, views: Views, images: Images = None) -> dict[str, np.ndarray]:
    """One batch of `samples`, each as it is."""
    return _with_images(_named(samples, _identity(samples, views)), images)


def _identity(samples: np.ndarray, views: Views) -> np.ndarray:
    return np.full(len(samples), views.identity, np.int32)


def _named(sample: Any, view: Any) -> dict[str, Any]:
    return {"sample": sample, "view": view}


def _with_images(batch: dict[str, np.ndarray], images: Images) -> dict[str, np.ndarray]:
    return batch if images is None else {**batch, "image": np.asarray(images[batch["sample"]])}


def _endless(epoch: Callable[[int], Table], count: int, batch_size: int, first_step: int) -> Any:
    """A tf.data.Dataset of batches of indices."""
    import tensorflow as tf

    first_epoch, skipped = divmod(first_step, count // batch_size)

    def tables() -> Iterator[dict[str, np.ndarray]]:
        for number in itertools.count(first_epoch):
            yield _named(*epoch(number))

    # One Python call an epoch: the batches are cut inside tf.data.
    column = tf.TensorSpec((count,), tf.int32)
    shown = tf.data.Dataset.from_generator(tables, output_signature=_named(column, column))
    batches = shown.flat_map(
        lambda table: tf.data.Dataset.from_tensor_slices(table).batch(batch_size, drop_remainder=True)
    )
    return batches.skip(skipped)


def _tf_data(batches: Any, images: Images) -> Any:
    """A tf.data.Dataset of batches of indices, as `fit` takes it, with what they show of `images`."""
    import tensorflow as tf

    if images is not None:
        shape = images.shape[1:]

        def brought(batch: dict[str, Any]) -> dict[str, Any]:
            image = tf.numpy_function(lambda sample: images[sample], [batch["sample"]], tf.uint8)
            return {**batch, "image": tf.ensure_shape(image, (*batch["sample"].shape, *shape))}

        batches = batches.map(brought)
    # There is nothing to tune, and the thread that would wakes up ever less often, down to once a minute:
    # `fit` would wait for it at its end.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.map(lambda batch: (batch,)).prefetch(2).with_options(options)


class _Once(keras.utils.PyDataset):
    """The batches of one table."""

    def __init__(self, table: Table, batch_size: int, images: Images):
        super().__init__()
        self._table, self._batch_size, self._images = table, batch_size, images

    def __len__(self) -> int:
        return -(-len(self._table[0]) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        return (_batch(self._table, index, self._batch_size, self._images),)


class _Endless(keras.utils.PyDataset):
    """The batches of a table an epoch; a batch is a function of its number alone, so that no callback
    of `fit` can put it out of step."""

    def __init__(
        self,
        epoch: Callable[[int], Table],
        steps: int,
        batch_size: int,
        first_step: int,
        images: Images,
    ):
        super().__init__()
        self._epoch = functools.lru_cache(maxsize=1)(epoch)
        self._steps, self._batch_size, self._first_step = steps, batch_size, first_step
        self._images = images

    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        number, position = divmod(self._first_step + index, self._steps)
        return (_batch(self._epoch(number), position, self._batch_size, self._images),)


def _batch(table: Table, index: int, batch_size: int, images: Images) -> dict[str, np.ndarray]:
    part = slice(index * batch_size, (index + 1) * batch_size)
    return _with_images(_named(*(column[part] for column in table)), images)
