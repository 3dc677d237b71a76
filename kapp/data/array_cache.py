"""Decoded data sets, and their cache on disk: memory-mapped images, labels, and checksums."""

import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kapp import records
from kapp.errors import ConfigError, KappError
from kapp.fileio import checksum, folder_lock, is_folder, make_folder, write_array
from kapp.progress import printable

ARRAYS = ("images", "labels")
MAX_CLASSES = 10_000  # the confusion matrix has its square, 800 MB


class Arrays(NamedTuple):
    """A decoded data set: the training images first, then its own validation images, then the test images."""

    images: np.ndarray  # uint8 (n, height, width, channels)
    labels: np.ndarray  # int32 (n,)
    num_train: int  # number of training images
    classes: Sequence[str]
    num_validation: int = 0  # number of its own validation images; 0: kapp holds out training images


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: what a folder of the cache contains."""

    train: int
    classes: tuple[str, ...]
    sha256: Mapping[str, str] = field(default_factory=dict)  # of images.npy and labels.npy
    validation: int = 0


def check_arrays(
    images: np.ndarray, labels: np.ndarray, images_name: str, labels_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images as uint8 (n, height, width, channels) and labels as int32 (n,).

    Args:
        images: uint8 (n, height, width, channels) or, of gray images, (n, height, width).
        labels: integers from 0 to `MAX_CLASSES` - 1, (n,) or (n, 1).
        images_name, labels_name: names of the arrays for messages.

    Raises:
        ConfigError: the arrays have another type or shape.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ConfigError(
            f"{images_name} is {images.dtype} {images.shape}: images must be uint8, 0 to 255, "
            "of shape (n, height, width, channels), none of them 0."
        )
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ConfigError(
            f"{labels_name} is {labels.dtype} {labels.shape}: labels must be integers from 0, one for "
            f"each of the {len(images)} images."
        )
    low, high = int(labels.min()), int(labels.max())  # before the cast, which wraps around
    if low < 0 or high >= MAX_CLASSES:
        raise ConfigError(
            f"{labels_name} has labels from {low} to {high}: they must be from 0 to {MAX_CLASSES - 1:,}."
        )
    return images, labels.astype(np.int32)


def check_classes(classes: Sequence[str], where: str) -> None:
    """Refuses names of classes that a classifier or a file can't have.

    Args:
        where: the data set, for messages.

    Raises:
        ConfigError: fewer than two names, two equal ones, or one that can't be written or printed.
    """
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise ConfigError(
            f"{where} has {len(classes)} classes: a classifier needs at least 2, and at most {MAX_CLASSES:,}."
        )
    if repeated := sorted(name for name, count in Counter(classes).items() if count > 1):
        raise ConfigError(f"{where}: two classes have the same name, {printable(repeated[0])!r}.")
    for name in classes:
        if not name.strip() or printable(name) != name or "\n" in name or "\t" in name:
            raise ConfigError(
                f"{where}: the class name {name!a} is empty, or has characters that can't be printed. "
                "Rename the class."
            )


def load_or_create(folder: Path, create: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays cached in `folder`, memory-mapped; calls `create()` where there are none.

    Raises:
        KappError: the folder can't be written, or a file in it is damaged.
    """
    if not is_folder(folder):
        arrays = create()
        make_folder(folder.parent)
        with folder_lock(folder.parent, f"waiting for another process that writes to {folder.parent}"):
            if not is_folder(folder):  # else another process wrote the same arrays first
                _write(folder, arrays)
    return _read(folder)


def disk_array(shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """Returns a new uint8 array in a temporary file in `folder`, for images that may exceed the memory.

    The file has no name. The system deletes it together with the array.

    Raises:
        KappError: `folder` can't be written.
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # raises on a full disk; a write to the map would crash
                os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape)))
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise _write_error(folder, error) from error


def _write_error(folder: Path, error: OSError) -> KappError:
    return KappError(
        f"cannot write the data cache {folder}: {error.strerror or error}. "
        "Free some space or choose another --data-dir."
    )


def _write(folder: Path, arrays: Arrays) -> None:
    partial = folder.with_name(f".{os.getpid()}-{folder.name}")
    make_folder(partial)
    try:
        write_array(partial / "images.npy", arrays.images)
        write_array(partial / "labels.npy", arrays.labels)
        sha256 = {name: checksum(partial / f"{name}.npy") for name in ARRAYS}
        manifest = Manifest(arrays.num_train, tuple(arrays.classes), sha256, arrays.num_validation)
        records.write(manifest, partial / "manifest.json")
        partial.rename(folder)
    except OSError as error:
        raise _write_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(folder: Path) -> Arrays:
    way_out = f"Delete the folder {folder} of the data cache. The next run recreates it."
    manifest = records.read(Manifest, folder / "manifest.json", way_out)
    try:
        for name in ARRAYS:
            if checksum(folder / f"{name}.npy") != manifest.sha256[name]:
                raise ValueError(f"the checksum of {name}.npy is wrong")
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise KappError(f"the data cache {folder} is damaged ({error}). {way_out}") from error
    return Arrays(images, labels, manifest.train, manifest.classes, manifest.validation)
