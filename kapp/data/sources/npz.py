"""npz:PATH: a file of NumPy arrays."""

from pathlib import Path

import numpy as np

from kapp.data.array_cache import Arrays, check_arrays
from kapp.errors import ConfigError
from kapp.fileio import read_arrays

KEYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION_KEYS = ("x_validation", "y_validation")
MISNAMED = {"x_val", "y_val", "x_valid", "y_valid"}


UNLABELED_KEY = "x"


def load_unlabeled(path: Path) -> np.ndarray:
    """Returns the images of an .npz file without labels: its array x, or its only array.

    Returns:
        uint8 (n, height, width, channels).

    Raises:
        ConfigError: the file has several arrays and none called x, or the array is no images.
        KappError: the file is damaged, or contains pickled objects.
    """
    arrays = _read(path)
    if len(arrays) != 1 and UNLABELED_KEY not in arrays:
        raise ConfigError(
            f"{path} contains {', '.join(arrays) or 'nothing'}: a file of images without labels needs one "
            f"array, or one called {UNLABELED_KEY}."
        )
    name = UNLABELED_KEY if UNLABELED_KEY in arrays else next(iter(arrays))
    labels = np.zeros(arrays[name].shape[:1], np.int32)
    images, _ = check_arrays(arrays[name], labels, f"{path}: {name}", "labels")
    return images


def load(path: Path) -> Arrays:
    """Returns the arrays of an .npz file: x_train, y_train, x_test, y_test and, if present, x_validation,
    y_validation and classes (names).

    Raises:
        ConfigError: an array is missing, or the arrays are no images and labels.
        KappError: the file is damaged, or contains pickled objects.
    """
    arrays = _read(path)
    has_validation = not arrays.keys().isdisjoint(VALIDATION_KEYS)
    keys = KEYS + VALIDATION_KEYS if has_validation else KEYS
    missing = set(keys) - arrays.keys()
    if missing:
        raise ConfigError(
            f"{path} lacks {', '.join(sorted(missing))}. It needs {', '.join(keys)}; "
            f"it contains {', '.join(arrays) or 'nothing'}."
        )
    if misnamed := sorted(MISNAMED & arrays.keys()):
        raise ConfigError(
            f"{path} contains {', '.join(misnamed)}, which kapp doesn't read. Rename them to "
            f"{', '.join(VALIDATION_KEYS)}, or remove them."
        )
    names = ("train", "validation", "test") if has_validation else ("train", "test")
    parts = [
        check_arrays(arrays[f"x_{name}"], arrays[f"y_{name}"], f"{path}: x_{name}", f"y_{name}")
        for name in names
    ]
    for name, (images, _) in zip(names, parts):
        if images.shape[1:] != parts[0][0].shape[1:]:
            raise ConfigError(
                f"{path}: x_train has images of {parts[0][0].shape[1:]}, x_{name} of {images.shape[1:]}. "
                "All must have the same size."
            )
    images, labels = (np.concatenate(column) for column in zip(*parts))
    count = int(labels.max()) + 1
    classes = _class_names(arrays["classes"], path) if "classes" in arrays else list(map(str, range(count)))
    if len(classes) < count:
        raise ConfigError(f"{path}: classes has {len(classes)} names, but a label is {count - 1}.")
    num_validation = len(parts[1][0]) if has_validation else 0
    return Arrays(images, labels, len(parts[0][0]), classes, num_validation)


def _class_names(names: np.ndarray, path: Path) -> list[str]:
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise ConfigError(
            f"{path}: classes has the shape {names.shape} and the type {names.dtype}: it must be one list of "
            "names."
        )
    try:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: a name in classes isn't UTF-8. Write the names as text.") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path, "Write it again with np.savez.")
