"""npz:PATH: a file of NumPy arrays."""

import zipfile
from pathlib import Path

import numpy as np

from kapp.data.array_cache import Arrays, check_arrays
from kapp.errors import ConfigError, KappError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(path: Path) -> Arrays:
    """Returns the arrays x_train, y_train, x_test, y_test and, if present, classes (names) of an .npz file.

    Raises:
        ConfigError: an array is missing, or the arrays are no images and labels.
        KappError: the file is damaged, or contains pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise KappError(
            f"{path} is damaged or no .npz file ({error}). Write it again with np.savez."
        ) from error
    missing = set(KEYS) - arrays.keys()
    if missing:
        raise ConfigError(
            f"{path} lacks {', '.join(sorted(missing))}. It needs {', '.join(KEYS)}; "
            f"it contains {', '.join(arrays) or 'nothing'}."
        )
    train = check_arrays(arrays["x_train"], arrays["y_train"], f"{path}: x_train", "y_train")
    test = check_arrays(arrays["x_test"], arrays["y_test"], f"{path}: x_test", "y_test")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ConfigError(
            f"{path}: x_train has images of {train[0].shape[1:]}, x_test of {test[0].shape[1:]}. "
            "Both must have the same size."
        )
    images, labels = (np.concatenate(pair) for pair in zip(train, test))
    count = int(labels.max()) + 1
    classes = [str(name) for name in np.atleast_1d(arrays.get("classes", np.arange(count)))]
    if len(classes) < count:
        raise ConfigError(f"{path}: classes has {len(classes)} names, but a label is {count - 1}.")
    if len(set(classes)) < len(classes):
        raise ConfigError(f"{path}: two classes have the same name. The names are {', '.join(classes)}.")
    return Arrays(images, labels, len(train[0]), classes)
