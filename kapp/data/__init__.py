"""Data sets: a name -> images, labels and seeded splits. Importing this package imports no Keras."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kapp.data import epochs, sources
from kapp.data.epochs import Views
from kapp.errors import WrongValue

__all__ = ["Dataset", "Split", "Views", "load"]

RESIDENT = 2**32  # bytes: images that take more are streamed
BULK = 1000  # images in memory at once, where all are looked at


@dataclass(frozen=True)
class Split:
    """A part of a data set: the whole set's arrays and the samples that belong to the part."""

    all_images: np.ndarray
    all_labels: np.ndarray
    samples: np.ndarray  # int32 (n,): indices into the whole set's arrays

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def images(self) -> np.ndarray:
        """A copy: uint8 (n, height, width, channels)."""
        return self.all_images[self.samples]

    @property
    def labels(self) -> np.ndarray:
        """int32 (n,)."""
        return self.all_labels[self.samples]


@dataclass(frozen=True)
class Dataset:
    """All images of a data set as one array, and its three parts, which share no image."""

    name: str
    images: np.ndarray  # uint8 (n, height, width, channels); may be memory-mapped
    labels: np.ndarray  # int32 (n,)
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    # Whether each batch brings its images; else all of them lie where the compute is.
    streamed: bool = field(default=False, kw_only=True)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    @property
    def as_input(self) -> dict[str, Any]:
        """What `models.build` wants to know of the images to come."""
        mean, std = self.moments
        return {"classes": len(self.classes), "image_shape": self.image_shape, "mean": mean, "std": std}

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of all images and labels, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @cached_property
    def moments(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training images, per channel, in units of 0 to 255."""
        values = np.arange(256.0)
        counts = np.zeros((self.images.shape[-1], 256), np.int64)
        for start in range(0, len(self.train), BULK):
            images = self.images[self.train.samples[start : start + BULK]]
            counts += [np.bincount(images[..., c].ravel(), minlength=256) for c in range(len(counts))]
        share = counts / counts.sum(axis=1, keepdims=True)
        mean = share @ values
        variance = share @ values**2 - mean**2
        return mean.tolist(), np.sqrt(np.maximum(variance, 1.0)).tolist()


def load(
    name: str,
    *,
    seed: int = 0,
    data_dir: str | None = None,
    validation: int | None = None,
    limit_train: int | None = None,
    streamed: bool | None = None,
) -> Dataset:
    """The data set called `name`, split.

    Args:
        name: cifar10, cifar100[:CLASSES], shapes, shapes:near, shapes:far, tfds:NAME, npz:PATH or
            folder:PATH[@SIZE].
        seed: of the split, which is stratified: each part holds the classes in proportion.
        data_dir: see `sources.arrays`.
        validation: images taken from the training set to select by; a fifth by default, as in paper D
            (section 3: 40,000 / 10,000 / 10,000); 0 for none, as paper A does with 5,000 / 1,000.
        limit_train: train on that many images at most, and select by a quarter as many.
        streamed: whether each batch brings its images, instead of all lying where the compute is; None:
            where they take more than 4 GiB.

    Raises:
        WrongValue: an unknown name, unfit arrays, or a split that leaves nothing to train on.
        Failure: no network, or a damaged file.
    """
    images, labels, count, classes = sources.arrays(name, data_dir)
    validation = count // 5 if validation is None else validation
    if not 0 <= validation < count:
        raise WrongValue(f"{name}: {validation} of {count} training images can't be for validation.")
    order = epochs.stratified(labels[:count], seed).astype(np.int32)
    held_out, train = order[:validation], order[validation:]
    if limit_train is not None:
        if limit_train < 1:
            raise WrongValue(f"limit_train is {limit_train}: at least 1 image must be left.")
        train = train[:limit_train]
        held_out = held_out[: min(len(held_out), max(1, limit_train // 4))]
    test = np.arange(count, len(images), dtype=np.int32)
    parts = (Split(images, labels, samples) for samples in (train, held_out, test))
    streamed = images.nbytes > RESIDENT if streamed is None else streamed
    return Dataset(name, images, labels, tuple(classes), *parts, streamed=streamed)
