"""Data sets of tensorflow-datasets, prepared by the tests, so that no network is needed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kapp import data
from kapp.data import sources
from kapp.errors import ConfigError, KappError

tfds = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets")

CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
""".split()
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3)).astype(np.uint8)


class KappDots(tfds.core.GeneratorBasedBuilder):
    """Twenty training and ten test images of two classes."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (6, 6, 3)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=self.SHAPE, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 20), "test": self._generate_examples(20, 30)}

    def _generate_examples(self, start, stop):
        for i in range(start, stop):
            yield i, {"image": IMAGES[i], "label": i % 2}


class KappSizes(KappDots):
    """`KappDots` with images of unknown size."""

    SHAPE = (None, None, 3)


class KappTrain(KappDots):
    """`KappDots` without test images."""

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 20)}


def test_a_prepared_set_is_decoded_once_and_then_needs_no_tensorflow(tmp_path):
    KappDots(data_dir=tmp_path).download_and_prepare()
    dataset = data.load("tfds:kapp_dots", data_dir=str(tmp_path))
    assert dataset.classes == ("even", "odd")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 4, 10)
    found = {image.tobytes(): label for image, label in zip(dataset.images, dataset.labels)}
    assert found == {image.tobytes(): i % 2 for i, image in enumerate(IMAGES)}
    assert {image.tobytes() for image in dataset.test.images} == {i.tobytes() for i in IMAGES[20:]}

    program = (
        "import sys; from kapp import data\n"
        f"loaded = data.load('tfds:kapp_dots', data_dir={str(tmp_path)!r})\n"
        "print(loaded.checksum, bool({'tensorflow', 'keras'} & sys.modules.keys()))"
    )
    again = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
    )
    assert again.stdout.split() == [dataset.checksum, "False"]


def test_the_first_load_prints_no_messages_of_tensorflow(tmp_path):
    """Nor do later operations: TensorFlow reads its log level only when it is imported."""
    KappDots(data_dir=tmp_path).download_and_prepare()
    program = (
        "from kapp import data\n"
        f"from {__name__} import KappDots\n"
        f"data.load('tfds:kapp_dots', data_dir={str(tmp_path)!r})\n"
        "import tensorflow as tf; tf.function(lambda x: x + 1, jit_compile=True)(tf.ones(3))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    first = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (0, "")


def test_without_tensorflow_the_message_names_the_missing_package(tmp_path, monkeypatch):
    KappDots(data_dir=tmp_path).download_and_prepare()
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # makes the import fail
    with pytest.raises(KappError, match="needs tensorflow_datasets, which isn't installed"):
        data.load("tfds:kapp_dots", data_dir=str(tmp_path))


def test_images_of_several_sizes_are_refused(tmp_path):
    KappSizes(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(ConfigError, match="images of several sizes.*npz:PATH"):
        data.load("tfds:kapp_sizes", data_dir=str(tmp_path))


def test_a_set_without_a_test_split_is_refused(tmp_path):
    KappTrain(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(ConfigError, match="lacks a training or a test split: use another one, or your own"):
        data.load("tfds:kapp_train", data_dir=str(tmp_path))


def test_the_copy_of_a_version_needs_no_network(tmp_path, monkeypatch):
    KappDots(data_dir=tmp_path).download_and_prepare()
    monkeypatch.setattr(sources.tfds, "DOWNLOADS", "http://127.0.0.1:9")  # no server uses this port
    dataset = data.load("tfds:kapp_dots:1.0.0", data_dir=str(tmp_path))
    assert (dataset.classes, len(dataset.images)) == (("even", "odd"), 30)


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory) -> str:
    """CIFAR-100 as tensorflow-datasets describes it, with three training images and one test image per
    class, whose pixels are the label."""
    folder = tmp_path_factory.mktemp("cifar100")
    builder = tfds.builder("cifar100", data_dir=folder)
    builder.info.features["label"].names = CIFAR100

    def examples(split: str, each: int):
        for i in range(100 * each):
            image = np.full((32, 32, 3), i % 100, np.uint8)
            yield f"{split}{i}", {"id": f"{split}{i}", "image": image, "label": i % 100, "coarse_label": 0}

    builder._split_generators = lambda *_: {"train": examples("train", 3), "test": examples("test", 1)}
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(compute_stats="skip", try_download_gcs=False)
    )
    return str(folder)


@pytest.mark.parametrize(
    ("subset", "classes"),
    [
        ("class1", "rocket pickup_truck rabbit leopard camel wolf lizard cattle streetcar bus".split()),
        ("class2", "apple orchid bowl cup lamp telephone chair bridge cloud oak_tree".split()),
        ("bear,apple", ["bear", "apple"]),
    ],
)
def test_a_subset_of_cifar100_has_its_classes_only(cifar100, subset, classes):
    whole = data.load("cifar100", data_dir=cifar100)
    dataset = data.load(f"cifar100:{subset}", data_dir=cifar100, validation_images=len(classes))
    assert list(dataset.classes) == classes
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == tuple(
        n * len(classes) for n in (2, 1, 1)
    )
    for image, label in zip(dataset.images, dataset.labels):
        assert whole.classes[image[0, 0, 0]] == classes[label]


def test_unknown_classes_of_cifar100_are_refused(cifar100):
    with pytest.raises(ConfigError, match="unknown class 'aple'. Did you mean 'apple'"):
        data.load("cifar100:aple,bear", data_dir=cifar100)
    with pytest.raises(ConfigError, match="at least 2 classes"):
        data.load("cifar100:bear", data_dir=cifar100)
