"""folder:PATH[@SIZE]: image files, with one subfolder per class."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kapp.data import image_files, sampling
from kapp.data.array_cache import Arrays, check_classes, disk_array
from kapp.errors import ConfigError
from kapp.fileio import is_folder
from kapp.progress import ProgressLine

LAYOUT = "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, or PATH/CLASS/*.png (.jpg as well)"
VALIDATION = "validation"
MISNAMED = ("val", "valid")
MAX_SIZE = 16_384  # pixels per side: larger arrays fit nowhere


class Folder(NamedTuple):
    """The folder and size that folder:PATH or folder:PATH@SIZE names."""

    path: Path
    size: int | None  # height and width in pixels; None: the size of the files


def parse(text: str) -> Folder:
    """Returns the `Folder` for PATH or PATH@SIZE.

    Raises:
        ConfigError: the size is above `MAX_SIZE`; or the folder doesn't exist, has fewer than two classes, or
            has a subfolder val or valid.
    """
    match = re.fullmatch(r"(.+)@([1-9]\d*)", text)
    folder = Folder(Path(match[1]), int(match[2])) if match else Folder(Path(text), None)
    if folder.size is not None and folder.size > MAX_SIZE:
        raise ConfigError(f"folder:{text}: images can have {MAX_SIZE} pixels per side at most.")
    if not is_folder(folder.path):
        raise ConfigError(f"there is no folder {str(folder.path)!r} of image files. Expected: {LAYOUT}.")
    for part in _parts(folder.path):
        if len(_class_folders(part)) < 2:
            raise ConfigError(f"{part} has fewer than two classes (subfolders). Expected: {LAYOUT}.")
    check_classes([each.name for each in _class_folders(_parts(folder.path)[0])], f"folder:{text}")
    for name in MISNAMED:
        if len(_parts(folder.path)) > 1 and is_folder(folder.path / name):
            raise ConfigError(
                f"kapp doesn't read the folder {folder.path / name}: rename it to {VALIDATION}, or move it."
            )
    return folder


def digest(folder: Folder) -> str:
    """Returns 16 hexadecimal digits that change when an image file is added, removed or written again."""
    return _digest(folder.path, _files(folder.path), folder.size)


def load(folder: Folder, cache: Path) -> Arrays:
    """Returns all images in RGB and of one size, decoded on the disk of the folder `cache`.

    Next to the subfolders train and test, a subfolder validation contains the validation images. Without
    train and test, a fifth of the images becomes the test set.

    Raises:
        ConfigError: train and test have different classes, validation has a class that train hasn't, there
            are too few images, or they have several sizes and the name has no @SIZE.
        KappError: an image file is damaged.
    """
    parts = _parts(folder.path)
    classes = [path.name for path in _class_folders(parts[0])]
    for part in parts[1:]:
        names = {path.name for path in _class_folders(part)}
        differing = names - {*classes} if part.name == VALIDATION else names ^ {*classes}
        if differing:
            raise ConfigError(
                f"{parts[0]} and {part} have different classes: only one has {', '.join(sorted(differing))}."
            )
    files = _files(folder.path)
    label = {name: i for i, name in enumerate(classes)}
    labels = np.array([label[file.parent.name] for file in files], np.int32)
    order = np.arange(len(files))
    counts = [sum(file.is_relative_to(part) for file in files) for part in parts]
    if len(parts) > 1:
        num_train, num_validation = counts[0], sum(counts[1:-1])
    else:
        num_test = len(files) // 5
        if num_test == 0:
            raise ConfigError(
                f"{folder.path} has {len(files)} image files: at least 5 are needed, as a fifth becomes the "
                "test set. Add images."
            )
        num_train, num_validation = len(files) - num_test, 0
        mixed = sampling.stratified_order(labels, seed=0)
        order = np.concatenate([np.sort(mixed[num_test:]), np.sort(mixed[:num_test])])

    shape = _image_shape(folder, files)
    images = disk_array((len(files), *shape), cache)
    show_progress = ProgressLine(str(folder.path), len(files), "image files")
    for i, sample in enumerate(order):
        images[i] = image_files.read(files[sample], shape)
        show_progress(i + 1)
    return Arrays(images, labels[order], num_train, classes, num_validation)


def unlabeled_digest(path: Path, image_shape: tuple[int, int, int]) -> str:
    """As `digest`, for all image files below `path`."""
    return _digest(path, image_files.find(path, recursive=True), image_shape)


def load_unlabeled(path: Path, image_shape: tuple[int, int, int], cache: Path) -> Arrays:
    """Returns all images below `path`, in the shape `image_shape`, decoded on the disk of the folder `cache`.

    Raises:
        ConfigError: there are no image files, or `image_shape` has neither 1 nor 3 channels.
        KappError: an image file is damaged.
    """
    files = image_files.find(path, recursive=True)
    images = disk_array((len(files), *image_shape), cache)
    show_progress = ProgressLine(str(path), len(files), "image files")
    for i, file in enumerate(files):
        images[i] = image_files.read(file, image_shape)
        show_progress(i + 1)
    return Arrays(images, np.full(len(files), -1, np.int32), len(files), [])


def _digest(path: Path, files: list[Path], shape: object) -> str:
    sha256 = hashlib.sha256(repr(shape).encode())
    for file in files:
        status = file.stat()
        sha256.update(f"{file.relative_to(path)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return sha256.hexdigest()[:16]


def _parts(path: Path) -> list[Path]:
    """The folders train, validation (if it exists) and test, or the one folder that contains all classes."""
    train, validation, test = (path / name for name in ("train", VALIDATION, "test"))
    if not (is_folder(train) and is_folder(test)):
        return [path]
    return [train, validation, test] if is_folder(validation) else [train, test]


def _class_folders(part: Path) -> list[Path]:
    return sorted(path for path in part.iterdir() if is_folder(path) and not path.name.startswith("."))


def _files(path: Path) -> list[Path]:
    return [
        file for part in _parts(path) for folder in _class_folders(part) for file in image_files.find(folder)
    ]


def _image_shape(folder: Folder, files: list[Path]) -> tuple[int, int, int]:
    if folder.size is not None:
        return folder.size, folder.size, 3
    sizes = {image_files.size(file) for file in files}
    if len(sizes) > 1:
        (lowest, _), (highest, _) = min(sizes), max(sizes)
        raise ConfigError(
            f"the images in {folder.path} have {len(sizes)} sizes (heights from {lowest} to {highest}). "
            f"Add the size in pixels to resize them: folder:{folder.path}@64."
        )
    return (*sizes.pop(), 3)
