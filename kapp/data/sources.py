"""Where images come from: a name -> arrays."""

import os
import re
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from kapp import cli
from kapp.data import folders, shapes
from kapp.data.cache import Arrays, cached, on_disk
from kapp.errors import Failure, WrongValue, unknown
from kapp.words import Countdown

SHAPES_TRAIN, SHAPES_TEST = 12_500, 2_500
BULK = 1000  # images of tensorflow-datasets in memory at once
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
# Paper A's two ten-class subsets: "class1 has the similar categories as CIFAR10 while class2 has much
# different categories". The paper doesn't print their names: these are kapp's own choice.
CIFAR100 = {
    "class1": "rocket,pickup_truck,rabbit,leopard,camel,wolf,lizard,cattle,streetcar,bus",
    "class2": "apple,orchid,bowl,cup,lamp,telephone,chair,bridge,cloud,oak_tree",
}
NAMES = (
    "cifar10",
    "cifar100",
    *(f"cifar100:{part}" for part in CIFAR100),
    "shapes",
    "shapes:near",
    "shapes:far",
)
FORMS = ", or cifar100:CLASS,CLASS,..., or tfds:NAME, or npz:PATH, or folder:PATH[@SIZE]"
DOWNLOADS = "https://storage.googleapis.com"  # where tensorflow-datasets keeps its data


def check(name: str) -> None:
    """Refuse a name that `arrays` can't load, as far as that shows without loading.

    Raises:
        WrongValue: an unknown name, or a file that isn't there.
    """
    kind, _, rest = name.partition(":")
    if name not in NAMES and not (kind in ("tfds", "npz", "folder", "cifar100") and rest):
        raise unknown("data set", name, NAMES, FORMS)
    if kind == "npz" and not Path(rest).is_file():
        raise WrongValue(f"there is no file {rest!r} for the data set {name!r}.")
    if kind == "folder":
        folders.parse(rest)


def check_folder(data_dir: str | None) -> None:
    """Refuse a folder that isn't there.

    Raises:
        WrongValue: so it is.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise WrongValue(f"there is no folder {data_dir!r}: give --data-dir a folder that exists.")


def home(data_dir: str | None = None) -> Path:
    """Where data sets are kept: `data_dir`, by default $KAPP_DATA_DIR, or else ~/.cache/kapp."""
    return Path(data_dir or os.environ.get("KAPP_DATA_DIR") or Path.home() / ".cache" / "kapp")


def arrays(name: str, data_dir: str | None = None) -> Arrays:
    """The decoded images of the data set called `name`.

    Args:
        name: one of `NAMES`, cifar100:CLASS,CLASS,..., tfds:NAME, npz:PATH or folder:PATH[@SIZE].
        data_dir: where tensorflow-datasets and the array cache keep their files; see `home`.

    Raises:
        WrongValue: an unknown name, or a file whose arrays aren't images and labels.
        Failure: no network, or a damaged file.
    """
    check(name)
    check_folder(data_dir)
    place = home(data_dir)
    kind, _, rest = name.partition(":")
    make: Callable[[], Arrays]
    match kind:
        case "npz":
            return _npz(Path(rest))  # decoded already: no second copy
        case "folder":
            folder = folders.parse(rest)
            name = f"folder-{folder.path.resolve().name}-{folders.digest(folder)}"
            make = partial(folders.arrays, folder, place)
        case "shapes":
            name = f"{name}-{shapes.VERSION}"
            make = partial(_shapes, rest or "shapes")
        case "cifar100" if rest:
            return _subset(arrays(kind, data_dir), CIFAR100.get(rest, rest).split(","))
        case _:
            make = partial(_tfds, rest or name, place)
    return cached(place / "arrays" / re.sub(r"[^\w.-]", "_", name), make)


def _shapes(kind: str) -> Arrays:
    train, test = shapes.draw(kind, SHAPES_TRAIN, seed=0), shapes.draw(kind, SHAPES_TEST, seed=1)
    return _joined(train, test, shapes.CLASSES[kind])


def _subset(whole: Arrays, names: list[str]) -> Arrays:
    """The images of the classes called `names`, labelled in that order."""
    for name in names:
        if name not in whole.classes:
            raise unknown("class", name, whole.classes)
    if len(set(names)) < 2:
        raise WrongValue(f"{','.join(names)}: a classifier needs at least 2 classes.")
    place = np.full(len(whole.classes), -1, np.int32)
    place[[whole.classes.index(name) for name in names]] = np.arange(len(names))
    labels = place[whole.labels]
    kept = np.flatnonzero(labels >= 0)
    return Arrays(whole.images[kept], labels[kept], int(np.sum(kept < whole.train)), names)


def _npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise Failure(f"{path} is damaged or no .npz file ({error}). Write it anew with np.savez.") from error
    missing = {"x_train", "y_train", "x_test", "y_test"} - held.keys()
    if missing:
        raise WrongValue(
            f"{path} lacks {', '.join(sorted(missing))}. It needs x_train, y_train, x_test and y_test; "
            f"it holds {', '.join(held) or 'nothing'}."
        )
    train = _checked(held["x_train"], held["y_train"], f"{path}: x_train", "y_train")
    test = _checked(held["x_test"], held["y_test"], f"{path}: x_test", "y_test")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise WrongValue(
            f"{path}: x_train holds images of {train[0].shape[1:]}, x_test of {test[0].shape[1:]}. "
            "Both must have one size."
        )
    count = int(max(train[1].max(), test[1].max())) + 1
    names = [str(name) for name in np.atleast_1d(held.get("classes", np.arange(count)))]
    if len(names) < count:
        raise WrongValue(f"{path}: {len(names)} classes are named, but a label is {count - 1}.")
    if len(set(names)) < len(names):
        raise WrongValue(f"{path}: two classes have one name. They are {', '.join(names)}.")
    return _joined(train, test, names)


def _tfds(name: str, home: Path) -> Arrays:
    if not any((home / name).rglob("dataset_info.json")):
        _refuse_offline(name, home)
    try:
        with cli.quiet():
            import tensorflow as tf
            import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise Failure(
            f"reading {name!r} for the first time needs {error.name}, which isn't installed: pip install it "
            "(after that the array cache is enough), or give your own arrays with --dataset npz:PATH."
        ) from error

    if cli.backend() != "tensorflow":
        tf.config.set_visible_devices(
            [], "GPU"
        )  # or TensorFlow would take its memory from those who train on it
    try:
        builder = tfds.builder(name, data_dir=home)
        builder.download_and_prepare()
    except tfds.core.registered.DatasetNotFoundError as error:
        raise WrongValue(
            f"tensorflow-datasets has no data set {name!r}. Its catalogue lists the names."
        ) from error
    except Exception as error:  # what downloads, checksums and extractions raise
        raise Failure(f"tensorflow-datasets couldn't prepare {name!r} in {home}: {error}") from error
    info = builder.info
    if info.supervised_keys is None or not isinstance(
        info.features[info.supervised_keys[1]], tfds.features.ClassLabel
    ):
        raise WrongValue(f"the data set {name!r} is not for image classification.")
    size = info.features[info.supervised_keys[0]].shape
    if None in size:
        raise WrongValue(
            f"the data set {name!r} has images of several sizes. "
            "Resize them to one and give them with --dataset npz:PATH."
        )
    test = "test" if "test" in info.splits else "validation"
    if not {"train", test} <= info.splits.keys():
        raise WrongValue(f"the data set {name!r} lacks a training or a test split.")
    train = info.splits["train"].num_examples
    count = train + info.splits[test].num_examples
    images, labels = on_disk((count, *size), home), np.empty(count, np.int32)
    say, done = Countdown(name, count, "images"), 0
    for split in ("train", test):
        with tf.device("CPU"):
            batches = tfds.as_numpy(builder.as_dataset(split, batch_size=BULK, as_supervised=True))
            for pictures, numbers in batches:
                part = slice(done, done + len(pictures))
                images[part], labels[part] = _checked(
                    pictures, numbers, f"{name}: the {split} images", "labels"
                )
                done = part.stop
                say(done)
    # Only a downloaded CIFAR-10 knows its names, one prepared in another way has numbers.
    classes = CIFAR10 if name == "cifar10" else info.features[info.supervised_keys[1]].names
    return Arrays(images, labels, train, list(classes))


def _checked(images, labels, images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images as uint8 (n, height, width, channels) and labels as int32 (n,)."""
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise WrongValue(
            f"{images_name} is {images.dtype} {images.shape}: images must be uint8, 0 to 255, "
            "of shape (n, height, width, channels)."
        )
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise WrongValue(
            f"{labels_name} is {labels.dtype} {labels.shape}: labels must be integers from 0, one for "
            f"each of the {len(images)} images."
        )
    return images, labels.astype(np.int32)


def _joined(train, test, classes) -> Arrays:
    images, labels = (np.concatenate(pair) for pair in zip(train, test))
    return Arrays(images, labels.astype(np.int32), len(train[0]), [str(name) for name in classes])


def _refuse_offline(name: str, home: Path) -> None:
    """Raise within seconds where tensorflow-datasets would wait for minutes."""
    reached = threading.Event()

    def reach() -> None:
        try:
            urllib.request.urlopen(DOWNLOADS, timeout=4).close()
        except urllib.error.HTTPError:
            pass  # an answer, if only a refusal
        except OSError:
            return
        reached.set()

    # A thread, because looking up a name takes no timeout.
    attempt = threading.Thread(target=reach, daemon=True)
    attempt.start()
    attempt.join(timeout=5)
    if not reached.is_set():
        raise Failure(
            f"no network, and no copy of {name!r} in {home}. Three ways out: give --data-dir a folder in "
            f"which tensorflow-datasets prepared it elsewhere; give your own arrays with --dataset npz:PATH; "
            f"or take the embedded set with --dataset shapes."
        )
