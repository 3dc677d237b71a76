"""`Dataset`: images, labels, and their splits into training, validation and test images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Optional, TypedDict

import numpy as np

from kapp.data import patches, sampling, sources
from kapp.data.array_cache import disk_array
from kapp.errors import ConfigError

MAX_RESIDENT_BYTES = 2**32  # larger sets of images are streamed by default
CHUNK = 1000  # images in memory at once where all of them are read
NO_LABEL = -1


class ModelArguments(TypedDict):
    """The arguments of `models.build` that follow from the data."""

    classes: int
    image_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    patch_covariance: np.ndarray


@dataclass(frozen=True)
class Split:
    """A part of a data set: the arrays of the whole set, and the indices of the samples in this part."""

    all_images: np.ndarray
    all_labels: np.ndarray
    samples: np.ndarray  # int32 (n,): indices into the arrays of the whole set

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
    """All images of a data set as one array, and its three splits, which share no image.

    A data set may have validation images of its own. Otherwise they are held out from its training images.
    """

    name: str
    images: np.ndarray  # uint8 (n, height, width, channels); may be memory-mapped
    labels: np.ndarray  # int32 (n,); NO_LABEL: a training image whose label is unknown, or not to be used
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    # True: each batch contains its images. False: the device keeps all images, batches contain indices.
    streamed: bool = field(default=False, kw_only=True)
    # int32 (n,): all training images, in the order of `sampling.hold_out`.
    train_order: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32), kw_only=True)
    has_own_validation: bool = field(default=False, kw_only=True)
    # The data set as it was loaded, where labels were hidden or images added. Its checksum is that of both.
    source: Optional["Dataset"] = field(default=None, kw_only=True, repr=False)
    unlabeled_images: int = field(default=0, kw_only=True)  # added to the training images
    unlabeled_sha256: str | None = field(default=None, kw_only=True)

    @property
    def labeled_images(self) -> int:
        """Number of training images with a label."""
        return int((self.train.labels != NO_LABEL).sum())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def model_arguments(self) -> ModelArguments:
        """The keyword arguments for `models.build` that fit this data set."""
        mean, std = self.channel_stats
        return {
            "classes": len(self.classes),
            "image_shape": self.image_shape,
            "mean": mean,
            "std": std,
            "patch_covariance": self.patch_covariance,
        }

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of all images and labels, and of its own division, in hexadecimal. Hidden labels and
        added images don't change it."""
        if self.source is not None:
            return self.source.checksum
        digest = hashlib.sha256()
        for array in (self.images, self.labels):
            digest.update(np.ascontiguousarray(array).data)
        # Other names have one division into training and test images.
        if self.has_own_validation or self.name.startswith(("npz:", "folder:")):
            digest.update(f"{len(self.train_order)} training, {len(self.test)} test images".encode())
        return digest.hexdigest()

    @cached_property
    def channel_stats(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training images per channel, in units of 0 to 255."""
        values = np.arange(256.0)
        counts = np.zeros((self.images.shape[-1], 256), np.int64)
        for start in range(0, len(self.train), CHUNK):
            images = self.images[self.train.samples[start : start + CHUNK]]
            counts += [np.bincount(images[..., c].ravel(), minlength=256) for c in range(len(counts))]
        frequencies = counts / counts.sum(axis=1, keepdims=True)
        mean = frequencies @ values
        variance = frequencies @ values**2 - mean**2
        return mean.tolist(), np.sqrt(np.maximum(variance, 1.0)).tolist()

    @cached_property
    def patch_covariance(self) -> np.ndarray:
        """That of `patches.patch_covariance`, of the first training images."""
        return patches.patch_covariance(self.images, self.train.samples, *self.channel_stats)

    def first_labeled(self, count: int) -> "Dataset":
        """Returns this data set with only the first `count` training images, in proportion of the classes.

        The validation and test images stay.

        Raises:
            ConfigError: there are fewer training images.
        """
        self._check_labeled(count)
        return replace(self, train=replace(self.train, samples=self.train.samples[:count]))

    def hide_labels(self, count: int) -> "Dataset":
        """Returns this data set with the labels of only the first `count` training images: those that
        `first_labeled` keeps.

        Raises:
            ConfigError: there are fewer training images.
        """
        self._check_labeled(count)
        labels = self.labels.copy()
        labels[self.train.samples[count:]] = NO_LABEL
        return self._with(self.images, labels, self.train.samples)

    def add_unlabeled(
        self, images: np.ndarray, streamed: bool | None = None, folder: Path | None = None
    ) -> "Dataset":
        """Returns this data set with `images` as further training images, without labels.

        Args:
            images: uint8 (n, height, width, channels).
            streamed: as for `load`.
            folder: where a streamed data set keeps the images; the data cache by default.

        Raises:
            ConfigError: some of them are validation or test images.
        """
        self._check_unlabeled(images)
        labels = np.concatenate([self.labels, np.full(len(images), NO_LABEL, np.int32)])
        if streamed is None:
            streamed = self.streamed or self.images.nbytes + images.nbytes > MAX_RESIDENT_BYTES
        if streamed:
            joined = disk_array((len(labels), *self.image_shape), folder or sources.home())
            for start, part in ((0, self.images), (len(self.images), images)):
                for i in range(0, len(part), CHUNK):
                    joined[start + i : start + min(i + CHUNK, len(part))] = part[i : i + CHUNK]
        else:
            joined = np.concatenate([self.images, images])
        added = np.arange(len(self.images), len(joined), dtype=np.int32)
        sha256 = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        if self.unlabeled_sha256 is not None:
            sha256 = hashlib.sha256(f"{self.unlabeled_sha256} {sha256}".encode()).hexdigest()
        return replace(
            self._with(joined, labels, np.concatenate([self.train.samples, added])),
            streamed=streamed,
            unlabeled_images=self.unlabeled_images + len(images),
            unlabeled_sha256=sha256,
        )

    def _check_labeled(self, count: int) -> None:
        if count > len(self.train):
            raise ConfigError(
                f"--labeled is {count}, but {self.name} has {len(self.train)} training images: it must be at "
                "most as many."
            )

    def _check_unlabeled(self, images: np.ndarray) -> None:
        held_out = np.concatenate([self.validation.samples, self.test.samples])
        known = {hashlib.sha256(self.images[sample].tobytes()).digest() for sample in held_out}
        found = sum(hashlib.sha256(image.tobytes()).digest() in known for image in images)
        if found:
            raise ConfigError(
                f"{found:,} of the {len(images):,} images without labels are validation or test images of "
                f"{self.name}: remove them."
            )

    def _with(self, images: np.ndarray, labels: np.ndarray, train: np.ndarray) -> "Dataset":
        train_split, validation, test = (
            Split(images, labels, samples) for samples in (train, self.validation.samples, self.test.samples)
        )
        return replace(
            self,
            images=images,
            labels=labels,
            train=train_split,
            validation=validation,
            test=test,
            source=self.source or self,
        )


def load(
    name: str,
    *,
    seed: int = 0,
    data_dir: str | None = None,
    validation_images: int | None = None,
    train_images: int | None = None,
    streamed: bool | None = None,
) -> Dataset:
    """Loads a data set and splits it.

    Args:
        name: cifar10, cifar100[:CLASSES], shapes, shapes:near, shapes:far, tfds:NAME, npz:PATH or
            folder:PATH[@SIZE].
        seed: integer, the seed of the split. Each part contains the classes in proportion.
        data_dir: the folder of the data sets and the array cache; see `sources.home`.
        validation_images: number of training images set aside for validation. Default: a fifth of the
            training set, as in Ratusznik et al. (section 3: 40,000 / 10,000 / 10,000); or all validation
            images that the data set has of its own. 0 disables validation, as in Hu 2018 (5,000 / 1,000).
        train_images: maximum number of training images. At most a quarter as many, and at least one, are
            held out; validation images of its own are all used.
        streamed: whether each batch contains its images. False keeps all images in device memory. Default:
            True for more than 4 GiB of images.

    Returns:
        A `Dataset`.

    Raises:
        ConfigError: the name is unknown, the arrays are no images and labels, no training image is left, or
            a number of validation images is given for a data set that has its own.
        KappError: there is no network, or a file is damaged.

    Example:

    >>> dataset = load("shapes", validation_images=2000)
    >>> len(dataset.train), len(dataset.validation), len(dataset.test)
    (10500, 2000, 2500)
    >>> dataset.test.images.shape
    (2500, 32, 32, 3)
    >>> dataset.classes[:3]
    ('disc', 'ring', 'square')
    """
    images, labels, num_train, classes, num_validation = sources.load(name, data_dir)
    if train_images is not None and train_images < 1:
        raise ConfigError(f"train_images is {train_images}. It must be 1 or more.")
    order = sampling.stratified_order(labels[:num_train], seed).astype(np.int32)
    own_validation, test = np.split(np.arange(num_train, len(images), dtype=np.int32), [num_validation])
    if num_validation:
        if validation_images not in (None, 0):
            raise ConfigError(
                f"{name}: validation_images is {validation_images}, but the data set has {num_validation} "
                "validation images of its own. Leave the number out to use all of them; 0 uses none."
            )
        train, _ = sampling.hold_out(order, 0, train_images)
        validation = own_validation if validation_images is None else own_validation[:0]
    else:
        if validation_images is None:
            validation_images = num_train // 5
        if not 0 <= validation_images < num_train:
            raise ConfigError(
                f"{name}: validation_images is {validation_images}. It must be 0 or more, and less than the "
                f"{num_train} training images."
            )
        train, validation = sampling.hold_out(order, validation_images, train_images)
    return Dataset(
        name,
        images,
        labels,
        tuple(classes),
        *(Split(images, labels, samples) for samples in (train, validation, test)),
        streamed=images.nbytes > MAX_RESIDENT_BYTES if streamed is None else streamed,
        train_order=order,
        has_own_validation=num_validation > 0,
    )


def are_indices(classes: Sequence[str]) -> bool:
    """Returns whether the class names are only "0", "1", "2", ..., as of a data set without names.

    >>> are_indices(["0", "1", "2"]), are_indices(["cat", "dog"])
    (True, False)
    """
    return list(classes) == [str(i) for i in range(len(classes))]


def classes_match(first: Sequence[str], second: Sequence[str]) -> bool:
    """Returns whether two lists of class names may describe the same classes in the same order.

    They do if they are equal, or if one of them has only indices for names and both are of one length. The
    same names in another order don't match.

    >>> classes_match(["cat", "dog"], ["0", "1"]), classes_match(["cat", "dog"], ["dog", "cat"])
    (True, False)
    """
    if list(first) == list(second):
        return True
    unnamed = are_indices(first) or are_indices(second)
    return unnamed and len(first) == len(second) and sorted(first) != sorted(second)
