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


@pytest.mark.parametrize("validation_images", [10, 40])
def test_held_out_images_are_the_last_of_the_stratified_order(validation_images, tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}", validation_images=validation_images)
    whole = data.load(f"npz:{tiny_npz}", validation_images=0).train.samples
    assert dataset.train.samples.tolist() == whole[:-validation_images].tolist()
    assert dataset.validation.samples.tolist() == whole[-validation_images:].tolist()
    assert np.ptp(np.bincount(dataset.validation.labels)) <= 2
    few = data.load(f"npz:{tiny_npz}", validation_images=validation_images, train_images=20)
    assert few.train.samples.tolist() == whole[:20].tolist()
    assert few.validation.samples.tolist() == whole[-5:].tolist()


@pytest.fixture
def own_validation(tiny_npz, tmp_path) -> str:
    """The tiny set with 30 validation images of its own."""
    with np.load(tiny_npz) as file:
        arrays = dict(file)
    arrays |= {"x_validation": 255 - arrays["x_test"][:30], "y_validation": arrays["y_test"][:30]}
    np.savez(tmp_path / "own.npz", **arrays)
    return f"npz:{tmp_path / 'own.npz'}"


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [({}, (200, 30)), ({"train_images": 40}, (40, 30)), ({"validation_images": 0}, (200, 0))],
)
def test_validation_images_of_its_own_are_all_used_or_none(settings, sizes, own_validation):
    dataset = data.load(own_validation, **settings)
    assert dataset.has_own_validation
    assert (len(dataset.train), len(dataset.validation)) == sizes
    assert dataset.train.samples.max() < 200
    assert dataset.validation.samples.tolist() == list(range(200, 200 + sizes[1]))
    assert dataset.test.samples.tolist() == list(range(230, 280))


def test_another_number_of_validation_images_of_its_own_is_refused(own_validation):
    for count in (1, 30, 31):
        message = f"validation_images is {count}, but the data set has 30 .*of its own. Leave the number out"
        with pytest.raises(ConfigError, match=message):
            data.load(own_validation, validation_images=count)


def test_the_checksum_is_that_of_the_division_too(own_validation, tmp_path):
    """The same arrays, one after the other, in the same order."""
    with np.load(own_validation.partition(":")[2]) as file:
        arrays = dict(file)
    for letter in "xy":
        parts = (arrays[f"{letter}_train"], arrays.pop(f"{letter}_validation"))
        arrays[f"{letter}_train"] = np.concatenate(parts)
    np.savez(tmp_path / "joined.npz", **arrays)
    own, joined = data.load(own_validation), data.load(f"npz:{tmp_path / 'joined.npz'}")
    np.testing.assert_array_equal(own.images, joined.images)
    assert own.checksum != joined.checksum
    assert own.checksum == data.load(own_validation, validation_images=0, train_images=9).checksum


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


def test_the_checksum_is_that_of_the_test_images_too(tiny_npz, tmp_path):
    """The same images, divided in another place."""
    with np.load(tiny_npz) as file:
        arrays = dict(file)
    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    checksums = set()
    for count in (60, 80):
        path = tmp_path / f"{count}.npz"
        x, y = (np.split(each, [count]) for each in (images, labels))
        np.savez(path, x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])
        checksums.add(data.load(f"npz:{path}").checksum)
    assert len(checksums) == 2


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
