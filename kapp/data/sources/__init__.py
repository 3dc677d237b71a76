"""Where images come from: the name of a data set -> its decoded images and labels."""

import os
import re
from functools import partial
from pathlib import Path

import numpy as np

from kapp.data import image_files
from kapp.data.array_cache import Arrays, check_classes, load_or_create
from kapp.data.sources import folder, npz, shapes, tfds
from kapp.errors import ConfigError, unknown
from kapp.fileio import is_file, is_folder, refuse_undecodable

NAMES = (
    "cifar10",
    "cifar100",
    *(f"cifar100:{subset}" for subset in tfds.CIFAR100_SUBSETS),
    "shapes",
    "shapes:near",
    "shapes:far",
)
FORMS = ", or cifar100:CLASS,CLASS,..., or tfds:NAME, or npz:PATH, or folder:PATH[@SIZE]"
# Characters of a folder's name in that of its cache: up to 200 bytes in UTF-8; a file name has 255 at most.
LONGEST_NAME = 50


def check(name: str) -> None:
    """Refuses a data set that can't be loaded, as far as the name and the files show that.

    Raises:
        ConfigError: the name is unknown or can't be decoded, or its file or folder doesn't exist.
    """
    refuse_undecodable(name)
    source, _, rest = name.partition(":")
    if name not in NAMES and not (source in ("tfds", "npz", "folder", "cifar100") and rest):
        raise unknown("data set", name, NAMES, FORMS)
    if source == "npz" and not is_file(rest):
        raise ConfigError(f"there is no file {rest!r} for the data set {name!r}.")
    if source == "folder":
        folder.parse(rest)


def check_unlabeled(name: str) -> None:
    """Refuses images without labels that can't be loaded, as far as the name and the files show that.

    Raises:
        ConfigError: the name isn't npz:PATH or folder:PATH, or there is no such file or folder of images.
    """
    refuse_undecodable(name)
    source, _, path = name.partition(":")
    if source not in ("npz", "folder") or not path:
        raise ConfigError(f"--unlabeled is {name}: it must be npz:PATH or folder:PATH.")
    if source == "npz" and not is_file(path):
        raise ConfigError(f"--unlabeled is {name}: there is no file {path!r}.")
    if source == "folder":
        image_files.find(Path(path), recursive=True)


def load_unlabeled(name: str, image_shape: tuple[int, int, int], data_dir: str | None = None) -> np.ndarray:
    """Returns images without labels, uint8 (n, height, width, channels).

    Args:
        name: npz:PATH, or folder:PATH, all image files below a folder, which are resized.
        image_shape: (height, width, channels), that of the data set.
        data_dir: as for `load`.

    Raises:
        ConfigError: as `check_unlabeled`, or the images have another shape.
        KappError: a file is damaged.
    """
    check_unlabeled(name)
    source, _, rest = name.partition(":")
    if source == "npz":
        images = npz.load_unlabeled(Path(rest))
    else:
        path, cache = Path(rest), home(data_dir)
        key = f"unlabeled-{path.resolve().name[:LONGEST_NAME]}-{folder.unlabeled_digest(path, image_shape)}"
        create = partial(folder.load_unlabeled, path, image_shape, cache)
        images = load_or_create(_cached(cache, key), create).images
    if images.shape[1:] != image_shape:
        raise ConfigError(
            f"--unlabeled {name} has images of {images.shape[1:]}, the data set has images of {image_shape}: "
            "they must be the same."
        )
    return images


def check_data_dir(data_dir: str | None) -> None:
    """Refuses a data folder that doesn't exist.

    Raises:
        ConfigError: it doesn't exist.
    """
    if data_dir is not None and not is_folder(data_dir):
        raise ConfigError(f"there is no folder {data_dir!r}. Choose an existing folder for --data-dir.")


def home(data_dir: str | None = None) -> Path:
    """Returns the folder of data sets and caches: `data_dir`, else $KAPP_DATA_DIR, else ~/.cache/kapp.

    Raises:
        ConfigError: there is none of them, such as in a container whose user has no home.
    """
    try:
        return Path(data_dir or os.environ.get("KAPP_DATA_DIR") or Path.home() / ".cache" / "kapp")
    except RuntimeError as error:
        raise ConfigError(
            f"there is no folder for data sets ({error}) Set --data-dir, KAPP_DATA_DIR or HOME."
        ) from error


def load(name: str, data_dir: str | None = None) -> Arrays:
    """Returns the decoded images and labels of a data set, from the array cache where it contains them.

    Args:
        name: one of `NAMES`, cifar100:CLASS,CLASS,..., tfds:NAME, npz:PATH or folder:PATH[@SIZE].
        data_dir: the folder of tensorflow-datasets and of the array cache; see `home`.

    Raises:
        ConfigError: the name is unknown, or the arrays are no images and labels.
        KappError: there is no network, or a file is damaged.
    """
    arrays = _load(name, data_dir)
    check_classes(arrays.classes, name)
    return arrays


def _load(name: str, data_dir: str | None) -> Arrays:
    check(name)
    check_data_dir(data_dir)
    cache = home(data_dir)
    source, _, rest = name.partition(":")
    match source:
        case "npz":
            return npz.load(Path(rest))  # decoded already, so not cached
        case "cifar100" if rest:
            return tfds.cifar100_subset(load("cifar100", data_dir), rest)
        case "folder":
            spec = folder.parse(rest)
            key = f"folder-{spec.path.resolve().name[:LONGEST_NAME]}-{folder.digest(spec)}"
            create = partial(folder.load, spec, cache)
        case "shapes":
            key = f"{name}-{shapes.VERSION}"
            create = partial(shapes.load, rest or "shapes")
        case _:
            key = name
            create = partial(tfds.load, rest or name, cache)
    return load_or_create(_cached(cache, key), create)


def _cached(cache: Path, key: str) -> Path:
    """The folder of the data set `key` in the array cache."""
    return cache / "arrays" / re.sub(r"[^\w.-]", "_", key)
