import re

import numpy as np
import pytest

from kapp import data
from kapp.errors import ConfigError, KappError


def save_npz(tmp_path, **changes) -> str:
    """Writes a valid file with some arrays changed, or left out if None; returns the data set's name."""
    arrays = {
        "x_train": np.zeros((20, 8, 8, 3), np.uint8),
        "y_train": np.arange(20) % 2,
        "x_test": np.zeros((4, 8, 8, 3), np.uint8),
        "y_test": np.arange(4) % 2,
    }
    arrays.update(changes)
    path = tmp_path / "set.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return f"npz:{path}"


def test_arrays_are_not_changed(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}")
    assert dataset.classes == ("dark", "mid", "light")
    with np.load(tiny_npz) as file:
        np.testing.assert_array_equal(dataset.images[:200], file["x_train"])
        np.testing.assert_array_equal(dataset.labels[:200], file["y_train"])
        np.testing.assert_array_equal(dataset.test.images, file["x_test"])
        np.testing.assert_array_equal(dataset.test.labels, file["y_test"])


def test_its_own_validation_images_are_used(tmp_path):
    x, y = np.full((3, 8, 8, 3), 7, np.uint8), np.array([1, 0, 1])
    dataset = data.load(save_npz(tmp_path, x_validation=x, y_validation=y))
    np.testing.assert_array_equal(dataset.validation.images, x)
    np.testing.assert_array_equal(dataset.validation.labels, y)
    assert (len(dataset.train), len(dataset.test)) == (20, 4)
    assert (dataset.images[dataset.train.samples] == 0).all()


def test_gray_images_and_label_columns_are_accepted(tmp_path):
    name = save_npz(
        tmp_path,
        x_train=np.zeros((20, 8, 8), np.uint8),
        x_test=np.zeros((4, 8, 8), np.uint8),
        y_train=(np.arange(20) % 2)[:, None],
    )
    dataset = data.load(name)
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.labels.shape == (24,)
    assert dataset.classes == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "lacks x_train"),
        ({"x_train": np.zeros((20, 64), np.uint8)}, "x_train is uint8 (20, 64): images must be uint8"),
        ({"x_train": np.zeros((20, 8, 8, 3), np.float32)}, "x_train is float32"),
        (
            {"x_test": np.zeros((4, 9, 9, 3), np.uint8)},
            "images of (8, 8, 3), x_test of (9, 9, 3)",
        ),
        ({"x_validation": np.zeros((4, 8, 8, 3), np.uint8)}, "lacks y_validation"),
        ({"x_val": np.zeros((4, 8, 8, 3), np.uint8)}, "contains x_val, which kapp doesn't read. Rename"),
        (
            {"x_validation": np.zeros((4, 9, 9, 3), np.uint8), "y_validation": np.arange(4) % 2},
            "images of (8, 8, 3), x_validation of (9, 9, 3)",
        ),
        ({"y_train": np.arange(19)}, "one for each of the 20 images"),
        ({"y_train": np.arange(20) - 1}, "integers from 0"),
        ({"y_train": np.linspace(0, 1, 20)}, "labels must be integers"),
        ({"classes": np.array(["only"])}, "classes has 1 names, but a label is 1"),
        ({"classes": np.array(3)}, "classes has 1 names, but a label is 1"),
        ({"classes": np.array(["cat", "cat"])}, "two classes have the same name. The names are cat, cat"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        data.load(save_npz(tmp_path, **changes))


def test_a_pickle_inside_an_npz_is_never_loaded(tmp_path):
    with pytest.raises(KappError, match="damaged or no .npz file"):
        data.load(save_npz(tmp_path, x_train=np.array([{"a": 1}] * 20, dtype=object)))


def test_an_npy_file_is_refused(tmp_path):
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(KappError):
        data.load(f"npz:{tmp_path / 'array.npz'}")


def test_the_message_names_a_truncated_file(tmp_path, tiny_npz):
    path = tmp_path / "cut.npz"
    path.write_bytes(tiny_npz.read_bytes()[:5000])
    with pytest.raises(KappError, match=re.escape(str(path))):
        data.load(f"npz:{path}")
