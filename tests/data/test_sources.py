import re
import time

import numpy as np
import pytest

from kapp import data
from kapp.data import shapes, sources
from kapp.errors import Failure, WrongValue


def test_an_npz_is_read_as_it_is(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (160, 40, 50)
    assert dataset.classes == ("dark", "mid", "light")
    with np.load(tiny_npz) as file:
        np.testing.assert_array_equal(dataset.test.images, file["x_test"])
        np.testing.assert_array_equal(dataset.test.labels, file["y_test"])
        both = np.concatenate([dataset.train.samples, dataset.validation.samples])
        assert sorted(both) == list(range(200))
        np.testing.assert_array_equal(dataset.images[:200], file["x_train"])


def test_grey_images_and_columns_of_labels_are_taken(tmp_path):
    name = written(
        tmp_path,
        x_train=np.zeros((20, 8, 8), np.uint8),
        x_test=np.zeros((4, 8, 8), np.uint8),
        y_train=(np.arange(20) % 2)[:, None],
    )
    dataset = data.load(name)
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.labels.shape == (24,)


def test_two_processes_may_fill_the_cache_at_once(tmp_path, monkeypatch):
    """The one that comes second finds the other's arrays where it would put its own."""
    monkeypatch.setattr(sources, "SHAPES_TRAIN", 50)
    monkeypatch.setattr(sources, "SHAPES_TEST", 10)
    from kapp.data import cache

    arrays = sources.arrays("shapes", str(tmp_path))
    cache._write(tmp_path / "arrays" / "shapes-1", arrays)  # as it goes on after both looked
    assert [path.name for path in (tmp_path / "arrays").iterdir()] == ["shapes-1"]
    np.testing.assert_array_equal(sources.arrays("shapes", str(tmp_path)).images, arrays.images)


def test_the_splits_share_no_image_and_hold_the_classes_in_proportion(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}", seed=5)
    parts = [set(part.samples.tolist()) for part in (dataset.train, dataset.validation, dataset.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 250
    assert np.ptp(np.bincount(dataset.validation.labels)) <= 1
    again, other = (data.load(f"npz:{tiny_npz}", seed=seed).train.samples for seed in (5, 6))
    np.testing.assert_array_equal(dataset.train.samples, again)
    assert (dataset.train.samples != other).any()


def test_a_limit_keeps_a_quarter_as_many_for_validation(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}", limit_train=40)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (40, 10, 50)


def test_moments_are_those_of_the_training_images(tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}")
    mean, std = dataset.moments
    pixels = dataset.train.images.reshape(-1, 3).astype("float64")
    np.testing.assert_allclose(mean, pixels.mean(axis=0))
    np.testing.assert_allclose(std, pixels.std(axis=0))


def test_shapes_come_from_the_cache_the_second_time(data_cache, monkeypatch):
    first = data.load("shapes:far")
    monkeypatch.setattr(shapes, "draw", None)  # drawing again would fail
    second = data.load("shapes:far")
    assert isinstance(second.images, np.memmap)
    np.testing.assert_array_equal(first.images[:100], second.images[:100])
    assert first.checksum == second.checksum
    assert (data_cache / "arrays" / "shapes_far-1" / "manifest.json").is_file()


def test_a_damaged_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SHAPES_TRAIN", 50)
    monkeypatch.setattr(sources, "SHAPES_TEST", 10)
    data.load("shapes", data_dir=str(tmp_path))
    images = tmp_path / "arrays" / "shapes-1" / "images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(Failure, match="arrays/shapes-1 is damaged .*Delete that folder"):
        data.load("shapes", data_dir=str(tmp_path))


def written(tmp_path, **changes):
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "lacks x_train"),
        ({"x_train": np.zeros((20, 64), np.uint8)}, "x_train is uint8 (20, 64): images must be uint8"),
        ({"x_train": np.zeros((20, 8, 8, 3), np.float32)}, "x_train is float32"),
        (
            {"x_test": np.zeros((4, 9, 9, 3), np.uint8)},
            "x_train holds images of (8, 8, 3), x_test of (9, 9, 3)",
        ),
        ({"y_train": np.arange(19)}, "one for each of the 20 images"),
        ({"y_train": np.arange(20) - 1}, "integers from 0"),
        ({"y_train": np.linspace(0, 1, 20)}, "labels must be integers"),
        ({"classes": np.array(["only"])}, "1 classes are named, but a label is 1"),
        ({"classes": np.array(3)}, "1 classes are named, but a label is 1"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, changes, message):
    with pytest.raises(WrongValue, match=re.escape(message)):
        data.load(written(tmp_path, **changes))


def test_a_pickle_inside_an_npz_is_never_loaded(tmp_path):
    with pytest.raises(Failure, match="damaged or no .npz file"):
        data.load(written(tmp_path, x_train=np.array([{"a": 1}] * 20, dtype=object)))


def test_an_npy_is_no_npz(tmp_path):
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(Failure, match="damaged or no .npz file"):
        data.load(f"npz:{tmp_path / 'array.npz'}")


def test_a_truncated_npz_is_named(tmp_path, tiny_npz):
    path = tmp_path / "cut.npz"
    path.write_bytes(tiny_npz.read_bytes()[:5000])
    with pytest.raises(Failure, match=f"{path} is damaged"):
        data.load(f"npz:{path}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1", "Did you mean 'cifar10'"),
        ("npz:", "unknown data set 'npz:'"),
        ("npz:/nowhere/x.npz", "there is no file '/nowhere/x.npz'"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(WrongValue, match=re.escape(message)):
        data.load(name)


def test_a_data_folder_that_is_not_there_is_refused():
    with pytest.raises(WrongValue, match="there is no folder '/nowhere'"):
        data.load("cifar10", data_dir="/nowhere")


def test_without_a_network_the_answer_comes_in_seconds_with_three_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "DOWNLOADS", "http://127.0.0.1:9")  # nobody listens there
    started = time.monotonic()
    with pytest.raises(Failure, match=r"no network.*--data-dir.*npz:PATH.*--dataset shapes"):
        data.load("cifar10", data_dir=str(tmp_path))
    assert time.monotonic() - started < 10
    assert list(tmp_path.iterdir()) == []  # no temporary folders left
