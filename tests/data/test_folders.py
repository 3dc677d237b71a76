import errno
import os
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from kapp import data
from kapp.errors import Failure, WrongValue

SHADES = {"dark": 40, "light": 200}


def picture(path, shade, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(path)


@pytest.fixture
def split(tmp_path):
    """train and test, two classes; each picture of its own shade."""
    root = tmp_path / "pictures"
    for part, count in (("train", 10), ("test", 3)):
        for name, shade in SHADES.items():
            for i in range(count):
                picture(root / part / name / f"{i}.png", shade + i)
    return root


def test_a_split_folder_is_read_as_it_is(split):
    dataset = data.load(f"folder:{split}")
    assert dataset.classes == ("dark", "light")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 4, 6)
    assert dataset.images.shape == (26, 8, 8, 3)
    for image, label in zip(dataset.images, dataset.labels):
        assert (image[0, 0, 0] >= 200) == (label == 1)
    assert sorted(dataset.test.images[:, 0, 0, 0]) == [40, 41, 42, 200, 201, 202]


def test_a_folder_without_a_split_sets_a_fifth_of_each_class_aside(tmp_path):
    for name, shade in SHADES.items():
        for i in range(20):
            picture(tmp_path / "all" / name / f"{i}.jpg", shade + i)
    dataset = data.load(f"folder:{tmp_path / 'all'}")
    assert np.bincount(dataset.test.labels).tolist() == [4, 4]
    assert len(dataset.train) + len(dataset.validation) == 32
    again = data.load(f"folder:{tmp_path / 'all'}")
    np.testing.assert_array_equal(dataset.test.images, again.test.images)


def test_pictures_of_several_sizes_need_one(split):
    picture(split / "train" / "dark" / "large.png", 45, (20, 12))
    with pytest.raises(WrongValue, match=r"have 2 sizes \(heights from 8 to 20\).*folder:.*@64"):
        data.load(f"folder:{split}")
    assert data.load(f"folder:{split}@16").image_shape == (16, 16, 3)


def test_a_changed_folder_is_read_anew(split):
    before = data.load(f"folder:{split}")
    picture(split / "train" / "dark" / "more.png", 99)
    after = data.load(f"folder:{split}")
    assert len(after.images) == len(before.images) + 1
    assert after.checksum != before.checksum


def test_what_is_no_folder_of_classes_is_refused(split, tmp_path):
    with pytest.raises(WrongValue, match="there is no folder '/nowhere' of pictures"):
        data.load("folder:/nowhere")
    with pytest.raises(WrongValue, match="fewer than two classes"):
        data.load(f"folder:{split / 'train' / 'dark'}")
    shutil.move(split / "test" / "dark", split / "test" / "drak")
    with pytest.raises(WrongValue, match="hold other classes: dark, drak is in one of them only"):
        data.load(f"folder:{split}")


def test_a_damaged_picture_is_named(split):
    (split / "train" / "dark" / "3.png").write_bytes(b"no picture")
    with pytest.raises(Failure, match=r"cannot read the picture .*3\.png"):
        data.load(f"folder:{split}")


def test_pictures_are_decoded_onto_the_disk_and_never_all_in_memory(tmp_path, split, monkeypatch):
    data.load(f"folder:{split}@64")  # whatever is imported on the way, is now
    for name, shade in SHADES.items():
        picture(tmp_path / "many" / name / "0.png", shade)
        for i in range(1, 300):
            os.link(tmp_path / "many" / name / "0.png", tmp_path / "many" / name / f"{i}.png")
    monkeypatch.setattr(data, "BULK", 20)
    tracemalloc.start()
    dataset = data.load(f"folder:{tmp_path / 'many'}@64")
    assert dataset.checksum
    assert dataset.moments
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dataset.images.nbytes == 600 * 64 * 64 * 3
    assert peak < dataset.images.nbytes / 4


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system can't set room aside")
def test_a_full_disk_is_told_before_anything_is_decoded(split, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Failure, match="cannot write the data cache .*: No space left on device.*--data-dir"):
        data.load(f"folder:{split}@24")
