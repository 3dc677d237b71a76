"""Decoded data sets, and their cache on disk: memory-mapped images, labels, and checksums."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kapp.errors import ConfigError, KappError
from kapp.fileio import checksum, make_folder, write_text


class Arrays(NamedTuple):
    """A decoded data set: the training images first, then its own validation images, then the test images."""

    images: np.ndarray  # uint8 (n, height, width, channels)
    labels: np.ndarray  # int32 (n,)
    num_train: int  # number of training images
    classes: Sequence[str]
    num_validation: int = 0  # number of its own validation images; 0: kapp holds out training images


def check_arrays(
    images: np.ndarray, labels: np.ndarray, images_name: str, labels_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images as uint8 (n, height, width, channels) and labels as int32 (n,).

    Args:
        images: uint8 (n, height, width, channels) or, of gray images, (n, height, width).
        labels: integers from 0, (n,) or (n, 1).
        images_name, labels_name: names of the arrays for messages.

    Raises:
        ConfigError: the arrays have another type or shape.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise ConfigError(
            f"{images_name} is {images.dtype} {images.shape}: images must be uint8, 0 to 255, "
            "of shape (n, height, width, channels)."
        )
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ConfigError(
            f"{labels_name} is {labels.dtype} {labels.shape}: labels must be integers from 0, one for "
            f"each of the {len(images)} images."
        )
    return images, labels.astype(np.int32)


def load_or_create(folder: Path, create: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays cached in `folder`, memory-mapped; calls `create()` where there are none.

    Raises:
        KappError: the folder can't be written, or a file in it is damaged.
    """
    if not folder.is_dir():
        _write(folder, create())
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
        np.save(partial / "images.npy", arrays.images)
        np.save(partial / "labels.npy", arrays.labels)
        manifest = {
            "train": arrays.num_train,
            "validation": arrays.num_validation,
            "classes": list(arrays.classes),
            "sha256": {name: checksum(partial / f"{name}.npy") for name in ("images", "labels")},
        }
        write_text(partial / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process wrote the same arrays first
            raise _write_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(folder: Path) -> Arrays:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name, sha256 in manifest["sha256"].items():
            if checksum(folder / f"{name}.npy") != sha256:
                raise ValueError(f"the checksum of {name}.npy is wrong")
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        counts = manifest["train"], manifest.get("validation", 0)  # caches of older versions have none
        return Arrays(images, labels, counts[0], manifest["classes"], counts[1])
    except (OSError, ValueError, KeyError) as error:
        raise KappError(
            f"the data cache {folder} is damaged ({error}). Delete that folder. The next run recreates it."
        ) from error
