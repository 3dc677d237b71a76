"""A folder of pictures, one subfolder a class -> arrays."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kapp.data import epochs, pictures
from kapp.data.cache import Arrays, on_disk
from kapp.errors import WrongValue
from kapp.words import Countdown

TEST_SHARE = 5  # where the pictures aren't split: each fifth is for the test
LAYOUT = "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, or PATH/CLASS/*.png (.jpg as well)"


class Folder(NamedTuple):
    """What folder:PATH or folder:PATH@SIZE names."""

    path: Path
    size: int | None  # pixels a side; None: as the pictures are


def parse(text: str) -> Folder:
    """PATH or PATH@SIZE.

    Raises:
        WrongValue: there is no such folder, or it holds no classes.
    """
    match = re.fullmatch(r"(.+)@([1-9]\d*)", text)
    folder = Folder(Path(match[1]), int(match[2])) if match else Folder(Path(text), None)
    if not folder.path.is_dir():
        raise WrongValue(f"there is no folder {str(folder.path)!r} of pictures. Expected: {LAYOUT}.")
    for part in _parts(folder.path):
        if len(_classes(part)) < 2:
            raise WrongValue(f"{part} holds fewer than two classes (subfolders). Expected: {LAYOUT}.")
    return folder


def digest(folder: Folder) -> str:
    """Changes when a picture is added, removed or written anew, in hexadecimal."""
    found = hashlib.sha256(repr(folder.size).encode())
    for path in _files(folder.path):
        status = path.stat()
        found.update(f"{path.relative_to(folder.path)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]


def arrays(folder: Folder, cache: Path) -> Arrays:
    """All pictures, in colour and of one size, decoded onto the disk of `cache`.

    Raises:
        WrongValue: train and test have other classes, or the pictures have several sizes and none is said.
        Failure: a picture is damaged.
    """
    parts = _parts(folder.path)
    classes = [path.name for path in _classes(parts[0])]
    for part in parts[1:]:
        if (others := [path.name for path in _classes(part)]) != classes:
            differing = ", ".join(sorted({*classes} ^ {*others}))
            raise WrongValue(f"{part} and {parts[0]} hold other classes: {differing} is in one of them only.")
    files = _files(folder.path)
    label = {name: i for i, name in enumerate(classes)}
    labels = np.array([label[file.parent.name] for file in files], np.int32)
    if len(parts) == 2:
        train = sum(file.is_relative_to(parts[0]) for file in files)
        order = np.arange(len(files))
    else:
        mixed = epochs.stratified(labels, seed=0)
        test = len(files) // TEST_SHARE
        if test == 0:
            raise WrongValue(
                f"{folder.path} holds {len(files)} pictures: too few to set some aside for a test."
            )
        train = len(files) - test
        order = np.concatenate([np.sort(mixed[test:]), np.sort(mixed[:test])])

    shape = _shape(folder)
    images = on_disk((len(files), *shape), cache)
    say = Countdown(str(folder.path), len(files), "pictures")
    for place, file in enumerate(order):
        images[place] = pictures.read(files[file], shape)
        say(place + 1)
    return Arrays(images, labels[order], train, classes)


def _parts(path: Path) -> list[Path]:
    """The folders of training and test pictures, or the one that holds both."""
    split = [path / "train", path / "test"]
    return split if all(part.is_dir() for part in split) else [path]


def _classes(part: Path) -> list[Path]:
    return sorted(path for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(path: Path) -> list[Path]:
    return [file for part in _parts(path) for folder in _classes(part) for file in pictures.find(folder)]


def _shape(folder: Folder) -> tuple[int, int, int]:
    if folder.size is not None:
        return folder.size, folder.size, 3
    sizes = {pictures.size(file) for file in _files(folder.path)}
    if len(sizes) > 1:
        (least, _), (most, _) = min(sizes), max(sizes)
        raise WrongValue(
            f"the pictures in {folder.path} have {len(sizes)} sizes (heights from {least} to {most}). "
            f"Say how many pixels a side they are to have: folder:{folder.path}@64."
        )
    return (*sizes.pop(), 3)
