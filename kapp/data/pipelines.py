"""The batches that `fit` and `evaluate` read.

A batch is {"sample": int32 (batch,), "view": int32 (batch,)}: indices of images, and views of an
`Augmentation`. A streamed data set adds {"image": uint8 (batch, height, width, channels)}.

An augmentation beyond crops and flips adds {"params": float32 (batch, len(sampling.PARAMS))} to the training
batches. Mixup and CutMix add the image that each one is mixed with, as "partner_sample", "partner_view",
"partner_params" and, of a streamed set, "partner_image".
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from kapp.data import sampling
from kapp.data.sampling import Augmentation
from kapp.errors import ConfigError

Batch = dict[str, np.ndarray]


def epoch_batch(samples: np.ndarray, seed: int, epoch: int, augmentation: Augmentation) -> Batch:
    """Returns one batch of all training samples, in the order and the views of an epoch.

    The partner of a position is the image at the next position of the plan, in that image's own view. As the
    order is random, so is the partner. It is chosen from the plan and not from the batch, so that a view
    depends on (seed, epoch, position) alone: not on the batch size, not on where a run resumes, and not on
    the devices that share a batch. The price is that the step gathers and augments two images per sample.

    Args:
        samples, seed, augmentation: as for `train_batches`.
        epoch: integer from 0.
    """
    order, view = sampling.epoch_plan(seed, epoch, len(samples), augmentation)
    batch = {"sample": samples[order], "view": view}
    if not augmentation.repeats:
        batch["params"] = sampling.view_params(seed, epoch, len(samples), augmentation)
    if augmentation.mixes:
        batch |= {f"partner_{name}": np.roll(column, -1, axis=0) for name, column in batch.items()}
    return batch


def train_batches(
    samples: np.ndarray,
    batch_size: int,
    *,
    seed: int,
    augmentation: Augmentation,
    first_step: int = 0,
    images: np.ndarray | None = None,
) -> Any:
    """Returns the batches of all epochs, without end, in the order of the epoch plan.

    All batches have `batch_size` samples, so that the step is compiled for one shape. The remainder of an
    epoch is left out: other samples in each epoch. Call `fit` with `shuffle=False` and `steps_per_epoch`,
    usually len(samples) // batch_size.

    Args:
        samples: int32 (n,), the indices of the training images.
        batch_size: integer, at most n.
        seed: integer, the seed of `sampling.epoch_plan`.
        augmentation: the views to choose from.
        first_step: number of batches to skip, for a run that resumes.
        images: uint8 (all, height, width, channels), where each batch is to contain its images.

    Returns:
        A `tf.data.Dataset` on TensorFlow, else a `keras.utils.PyDataset`.

    Raises:
        ConfigError: `batch_size` is above n.
    """
    steps = len(samples) // batch_size
    if not steps:
        raise ConfigError(f"the batch size is {batch_size}: it must be at most {len(samples)}, all samples.")

    def epoch_indices(epoch: int) -> Batch:
        return epoch_batch(samples, seed, epoch, augmentation)

    if keras.backend.backend() != "tensorflow":
        return _IndexBatches(epoch_indices, steps, batch_size, images, first_step)
    import tensorflow as tf

    first_epoch, skipped = divmod(first_step, steps)

    def epochs() -> Iterator[Batch]:
        return map(epoch_indices, itertools.count(first_epoch))

    # One Python call per epoch: tf.data itself cuts the batches.
    signature = {
        name: tf.TensorSpec(column.shape, column.dtype) for name, column in epoch_indices(first_epoch).items()
    }
    indices = tf.data.Dataset.from_generator(epochs, output_signature=signature)
    batches = indices.flat_map(
        lambda epoch: tf.data.Dataset.from_tensor_slices(epoch).batch(batch_size, drop_remainder=True)
    )
    return _tf_data(batches.skip(skipped), images)


def eval_batches(
    samples: np.ndarray, batch_size: int, augmentation: Augmentation, images: np.ndarray | None = None
) -> Any:
    """Returns batches of `samples`, once, in this order, not augmented. Args as of `train_batches`."""
    indices = index_batch(samples, augmentation)
    if keras.backend.backend() != "tensorflow":
        steps = -(-len(samples) // batch_size)
        return _IndexBatches(lambda _: indices, steps, batch_size, images, endless=False)
    import tensorflow as tf

    return _tf_data(tf.data.Dataset.from_tensor_slices(indices).batch(batch_size), images)


def index_batch(samples: np.ndarray, augmentation: Augmentation, images: np.ndarray | None = None) -> Batch:
    """Returns one batch of all `samples`, not augmented. Args as of `train_batches`.

    >>> index_batch(np.array([7, 8], "int32"), Augmentation(crop_padding=1))
    {'sample': array([7, 8], dtype=int32), 'view': array([4, 4], dtype=int32)}
    """
    view = np.full(len(samples), augmentation.identity, np.int32)
    return with_images({"sample": samples, "view": view}, images)


def with_images(batch: Batch, images: np.ndarray | None) -> Batch:
    """Returns `batch` with its images, and those of its partners; as it is where `images` is None."""
    if images is None:
        return batch
    return {**batch, **{image: np.asarray(images[batch[sample]]) for sample, image in _image_columns(batch)}}


def _image_columns(batch: dict[str, Any]) -> list[tuple[str, str]]:
    """The columns of samples in `batch`, each with that of its images."""
    columns = [("sample", "image"), ("partner_sample", "partner_image")]
    return [(sample, image) for sample, image in columns if sample in batch]


def _tf_data(batches: Any, images: np.ndarray | None) -> Any:
    """Adds the images to a tf.data.Dataset of indices, and prepares it for `fit`."""
    import tensorflow as tf

    if images is not None:

        def read(samples: Any) -> Any:
            image = tf.numpy_function(lambda sample: images[sample], [samples], tf.uint8)
            return tf.ensure_shape(image, (*samples.shape, *images.shape[1:]))

        def read_images(batch: dict[str, Any]) -> dict[str, Any]:
            return {**batch, **{image: read(batch[sample]) for sample, image in _image_columns(batch)}}

        batches = batches.map(read_images)
    # There is nothing to tune. With autotuning, `fit` waits at its end for the tuner's thread, which sleeps
    # for up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.map(lambda batch: (batch,)).prefetch(2).with_options(options)


class _IndexBatches(keras.utils.PyDataset):
    """Batches as a function of their number, so that nothing in `fit` can change their order."""

    def __init__(
        self,
        epoch_indices: Callable[[int], Batch],
        steps: int,
        batch_size: int,
        images: np.ndarray | None,
        first_step: int = 0,
        endless: bool = True,
    ):
        super().__init__()
        self._epoch_indices = functools.lru_cache(maxsize=1)(epoch_indices)
        self._steps, self._batch_size, self._first_step = steps, batch_size, first_step
        self._images, self._endless = images, endless

    @property
    def num_batches(self) -> int | None:
        return None if self._endless else self._steps

    def __getitem__(self, index: int) -> tuple[Batch]:
        epoch, step = divmod(self._first_step + index, self._steps)
        part = slice(step * self._batch_size, (step + 1) * self._batch_size)
        batch = {name: column[part] for name, column in self._epoch_indices(epoch).items()}
        return (with_images(batch, self._images),)
