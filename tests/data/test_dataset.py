import subprocess
import sys

import numpy as np
import pytest

from kapp import data
from kapp.data.dataset import are_indices, classes_match
from kapp.errors import ConfigError


def test_the_splits_share_no_image_and_have_the_classes_in_proportion(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}", seed=5)
    splits = [dataset.train, dataset.validation, dataset.test]
    assert [len(split) for split in splits] == [160, 40, 50]
    assert sorted(np.concatenate([split.samples for split in splits])) == list(range(250))
    assert dataset.test.samples.tolist() == list(range(200, 250))
    assert np.ptp(np.bincount(dataset.validation.labels)) <= 1
    again, other = (data.load(f"npz:{tiny_npz}", seed=seed).train.samples for seed in (5, 6))
    np.testing.assert_array_equal(dataset.train.samples, again)
    assert (dataset.train.samples != other).any()


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"train_images": 40}, (40, 10)),
        ({"train_images": 2}, (2, 1)),
        ({"validation_images": 0}, (200, 0)),
        ({"validation_images": 0, "train_images": 8}, (8, 0)),
        ({"validation_images": 199}, (1, 199)),
    ],
)
def test_numbers_of_images(settings, sizes, tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}", **settings)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (*sizes, 50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation_images": 200}, "validation_images is 200.*less than the 200 training images"),
        ({"validation_images": -1}, "validation_images is -1"),
        ({"train_images": 0}, "train_images is 0. It must be 1 or more"),
    ],
)
def test_splits_without_training_images_are_refused(settings, message, tiny_npz):
    with pytest.raises(ConfigError, match=message):
        data.load(f"npz:{tiny_npz}", **settings)


def test_channel_stats_are_those_of_the_training_images(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}")
    mean, std = dataset.channel_stats
    pixels = dataset.train.images.reshape(-1, 3).astype("float64")
    np.testing.assert_allclose(mean, pixels.mean(axis=0))
    np.testing.assert_allclose(std, pixels.std(axis=0))


def test_the_package_imports_no_keras():
    program = (
        "import sys; from kapp.data import Augmentation, Dataset, Split, load; print('keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_indices_match_any_names():
    assert are_indices(("0", "1", "2"))
    assert not are_indices(("dark", "1"))
    assert not are_indices(("0", "1", "10", "2"))  # names of folders, sorted as text
    assert classes_match(("0", "1"), ["cat", "dog"])
    assert classes_match(("cat", "dog"), ("0", "1"))


def test_names_match_in_the_same_order_only():
    assert classes_match(("cat", "dog"), ["cat", "dog"])
    assert not classes_match(("cat", "dog"), ("dog", "cat"))
    assert not classes_match(("cat", "dog", "owl"), ("0", "1"))
    assert not classes_match([str(i) for i in range(11)], sorted(str(i) for i in range(11))[::-1])
