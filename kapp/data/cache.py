"""Decoded data sets on disk: one memory-mapped array of images, one of labels, with checksums."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kapp.errors import Failure
from kapp.files import checksum, make_folder, write_text


class Arrays(NamedTuple):
    """A decoded data set: the training images first, then the test images."""

    images: np.ndarray  # uint8 (n, height, width, channels)
    labels: np.ndarray  # int32 (n,)
    train: int  # how many of them are for training
    classes: Sequence[str]


def cached(folder: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in `folder`, made by `make()` the first time and memory-mapped ever after.

    Raises:
        Failure: the folder can't be written, or a file in it isn't what was written.
    """
    if not folder.is_dir():
        _write(folder, make())
    return _read(folder)


def on_disk(shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """A uint8 array to fill, as large as the disk of `folder` allows, whatever the memory; its file has no
    name, and is gone with it.

    Raises:
        Failure: `folder` can't be written.
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk shows now, when it can be told
                os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape)))
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise _full(folder, error) from error


def _full(folder: Path, error: OSError) -> Failure:
    return Failure(
        f"cannot write the data cache {folder}: {error.strerror or error}. "
        "Free some room or choose another --data-dir."
    )


def _write(folder: Path, arrays: Arrays) -> None:
    partial = folder.with_name(f".{os.getpid()}-{folder.name}")
    make_folder(partial)
    try:
        np.save(partial / "images.npy", arrays.images)
        np.save(partial / "labels.npy", arrays.labels)
        manifest = {
            "train": arrays.train,
            "classes": list(arrays.classes),
            "sha256": {name: checksum(partial / f"{name}.npy") for name in ("images", "labels")},
        }
        write_text(partial / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        partial.rename(folder)
    except OSError as error:
        if folder.is_dir():  # another process was as quick, and wrote the same
            return
        raise _full(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(folder: Path) -> Arrays:
    damaged = f"the data cache {folder} is damaged ({{}}). Delete that folder; the next run makes it anew."
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name, sha256 in manifest["sha256"].items():
            if checksum(folder / f"{name}.npy") != sha256:
                raise Failure(damaged.format(f"{name}.npy isn't what was written"))
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        return Arrays(images, labels, manifest["train"], manifest["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise Failure(damaged.format(error)) from error
