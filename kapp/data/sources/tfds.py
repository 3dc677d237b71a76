"""cifar10, cifar100[:CLASSES] and tfds:NAME: the data sets of tensorflow-datasets."""

import re
import threading
from pathlib import Path

import numpy as np

from kapp import cli
from kapp.data.array_cache import Arrays, check_arrays, disk_array
from kapp.errors import ConfigError, KappError, unknown
from kapp.progress import ProgressLine

CHUNK = 1000  # images in memory at once
DOWNLOADS = "https://storage.googleapis.com"  # the server of tensorflow-datasets
OTHER = "use another one, or your own arrays with --dataset npz:PATH."
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
# The two ten-class subsets of Hu 2018: "class1 has the similar categories as CIFAR10 while class2 has much
# different categories". The paper doesn't list the categories. These are kapp's own choice.
CIFAR100_SUBSETS = {
    "class1": "rocket,pickup_truck,rabbit,leopard,camel,wolf,lizard,cattle,streetcar,bus",
    "class2": "apple,orchid,bowl,cup,lamp,telephone,chair,bridge,cloud,oak_tree",
}


def load(name: str, home: Path) -> Arrays:
    """Returns the training and test images (or, without a test split, validation images) of a data set.

    Args:
        name: the name in tensorflow-datasets.
        home: the folder that tensorflow-datasets downloads to, and in which the images are decoded.

    Raises:
        ConfigError: there is no such data set, or it isn't for image classification with images of one size.
        KappError: there is no network, tensorflow-datasets isn't installed, or it fails.
    """
    folder = home / re.split("[:/]", name)[0]  # without the configuration and the version
    if not any(folder.rglob("dataset_info.json")):
        _check_network(name, home)
    try:
        with cli.suppress_stderr():
            import tensorflow as tf
            import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise KappError(
            f"the first use of {name!r} needs {error.name}, which isn't installed. Install it with pip, or "
            "use your own arrays with --dataset npz:PATH."
        ) from error

    if cli.backend() != "tensorflow":
        # Otherwise TensorFlow reserves the GPU memory that the other backend needs.
        tf.config.set_visible_devices([], "GPU")
    try:
        builder = tfds.builder(name, data_dir=home)
        builder.download_and_prepare()
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ConfigError(
            f"tensorflow-datasets has no data set {name!r}. Its online catalog lists the names."
        ) from error
    except Exception as error:  # downloads, checksums and extraction raise many types
        raise KappError(
            f"tensorflow-datasets can't prepare {name!r} in {home}: {str(error).rstrip('.')}. Free some "
            "space, or set --data-dir to a folder in which it is prepared, or use --dataset npz:PATH."
        ) from error
    features, splits, keys = builder.info.features, builder.info.splits, builder.info.supervised_keys
    if keys is None or not isinstance(features[keys[1]], tfds.features.ClassLabel):
        raise ConfigError(f"the data set {name!r} is not for image classification: {OTHER}")
    shape = features[keys[0]].shape
    if None in shape:
        raise ConfigError(
            f"the data set {name!r} has images of several sizes. "
            "Resize them to one size and use --dataset npz:PATH."
        )
    test = "test" if "test" in splits else "validation"
    if not {"train", test} <= splits.keys():
        raise ConfigError(f"the data set {name!r} lacks a training or a test split: {OTHER}")
    num_train = splits["train"].num_examples
    count = num_train + splits[test].num_examples
    images, labels = disk_array((count, *shape), home), np.empty(count, np.int32)
    show_progress, done = ProgressLine(name, count, "images"), 0
    for split in ("train", test):
        with tf.device("CPU"):
            chunks = tfds.as_numpy(builder.as_dataset(split, batch_size=CHUNK, as_supervised=True))
            for x, y in chunks:
                part = slice(done, done + len(x))
                images[part], labels[part] = check_arrays(x, y, f"{name}: the {split} images", "labels")
                done = part.stop
                show_progress(done)
    # tensorflow-datasets takes CIFAR-10's names from its download. Without it, names are numbers.
    classes = CIFAR10 if name == "cifar10" else features[keys[1]].names
    return Arrays(images, labels, num_train, list(classes))


def cifar100_subset(arrays: Arrays, classes: str) -> Arrays:
    """Returns the images of some classes of CIFAR-100, with labels in the order of `classes`.

    Args:
        arrays: the whole data set.
        classes: a name in `CIFAR100_SUBSETS`, or names of classes, separated by commas.

    Raises:
        ConfigError: there is no such class, or fewer than 2 classes are left.
    """
    names = CIFAR100_SUBSETS.get(classes, classes).split(",")
    for name in names:
        if name not in arrays.classes:
            raise unknown("class", name, arrays.classes)
    if len(set(names)) < 2:
        raise ConfigError(f"{','.join(names)}: a classifier needs at least 2 classes.")
    new_label = np.full(len(arrays.classes), -1, np.int32)
    new_label[[arrays.classes.index(name) for name in names]] = np.arange(len(names))
    labels = new_label[arrays.labels]
    kept = np.flatnonzero(labels >= 0)
    return Arrays(arrays.images[kept], labels[kept], int(np.sum(kept < arrays.num_train)), names)


def _check_network(name: str, home: Path) -> None:
    """Raises a `KappError` within 5 seconds where tensorflow-datasets would wait for minutes."""
    import urllib.error  # here, because `--help` need not wait for them
    import urllib.request

    reached = threading.Event()

    def connect() -> None:
        try:
            urllib.request.urlopen(DOWNLOADS, timeout=4).close()
        except urllib.error.HTTPError:
            pass  # the server responded
        except OSError:
            return
        reached.set()

    # In a thread, because the look-up of a host name has no timeout.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(timeout=5)
    if not reached.is_set():
        raise KappError(
            f"no network, and no copy of {name!r} in {home}. Set --data-dir to a folder in which "
            "tensorflow-datasets prepared it elsewhere; or use your own arrays with --dataset npz:PATH; or "
            "the built-in data set with --dataset shapes."
        )
