import io
import re
import zipfile

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


def test_class_names_may_be_bytes(tmp_path):
    assert data.load(save_npz(tmp_path, classes=np.array([b"cat", b"dog"]))).classes == ("cat", "dog")


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
        ({"y_train": np.arange(20) - 1}, "labels from -1 to 18: they must be from 0"),
        ({"y_train": np.linspace(0, 1, 20)}, "labels must be integers"),
        ({"classes": np.array(["only"])}, "classes has 1 names, but a label is 1"),
        (
            {"classes": np.array(3)},
            "classes has the shape () and the type int64: it must be one list",
        ),
        ({"classes": np.array([["cat"], ["dog"]])}, "classes has the shape (2, 1)"),
        ({"classes": np.array([0.5, 1.5])}, "the type float64: it must be one list of names"),
        ({"classes": np.array([b"cat", b"\xff"])}, "a name in classes isn't UTF-8"),
        ({"classes": np.array(["cat", "cat"])}, "two classes have the same name, 'cat'"),
        (
            {"y_train": np.full(20, 2**32 + 1, np.uint64)},
            "labels from 4294967297 to 4294967297: they must be",
        ),
        ({"y_train": np.arange(20) + 10**6}, "they must be from 0 to 9,999"),
        ({"y_train": np.arange(20, dtype=np.int64) - 2**40}, "they must be from 0 to 9,999"),
        ({"x_train": np.zeros((20, 8, 8, 0), np.uint8)}, "(20, 8, 8, 0): images must be uint8"),
        (
            {"y_train": np.zeros(20, int), "y_test": np.zeros(4, int)},
            "has 1 classes: a classifier needs at least 2",
        ),
        ({"classes": np.array(["cat", "\x1b[2J"])}, "the class name '\\x1b[2J' is empty, or has characters"),
        ({"classes": np.array(["cat", "a\nb"])}, "has characters that can't be printed"),
        ({"classes": np.array(["cat", "\udcff"])}, "the class name '\\udcff' is empty, or has"),
        ({"classes": np.array(["cat", " "])}, "the class name ' ' is empty"),
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


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    """The shape in the header would take 9 TB."""
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as file:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": (3 * 10**9, 32, 32, 3)}
            )
            file.writestr(f"{name}.npy", header.getvalue() + b"few bytes")
    with pytest.raises(KappError, match=r"huge.npz is damaged or no .npz file .*np.savez"):
        data.load(f"npz:{tmp_path / 'huge.npz'}")
