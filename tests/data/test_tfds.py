"""A real data set of tensorflow-datasets, prepared here, so that no network is needed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kapp import data
from kapp.errors import WrongValue

tfds = pytest.importorskip("tensorflow_datasets", reason="machines without TensorFlow load from the cache")

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
    """The same, but for what it says of its images."""

    SHAPE = (None, None, 3)


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


def test_a_set_of_several_sizes_is_refused_with_a_way_out(tmp_path):
    KappSizes(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(WrongValue, match="images of several sizes.*npz:PATH"):
        data.load("tfds:kapp_sizes", data_dir=str(tmp_path))
