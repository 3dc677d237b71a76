import os
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from kapp import data
from kapp.errors import ConfigError, KappError

SHADES = {"dark": 40, "light": 200}


def save_image(path, shade, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(path)


@pytest.fixture
def split(tmp_path):
    """Folders train and test with two classes; the images differ in brightness."""
    root = tmp_path / "images"
    for part, count in (("train", 10), ("test", 3)):
        for name, shade in SHADES.items():
            for i in range(count):
                save_image(root / part / name / f"{i}.png", shade + i)
    return root


def test_a_folder_with_train_and_test(split):
    dataset = data.load(f"folder:{split}")
    assert dataset.classes == ("dark", "light")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 4, 6)
    assert dataset.images.shape == (26, 8, 8, 3)
    for image, label in zip(dataset.images, dataset.labels):
        assert (image[0, 0, 0] >= 200) == (label == 1)
    assert sorted(dataset.test.images[:, 0, 0, 0]) == [40, 41, 42, 200, 201, 202]


def test_a_folder_with_its_own_validation_images(split):
    for i in range(4):
        for name, shade in SHADES.items():
            save_image(split / "validation" / name / f"{i}.png", shade + 20 + i)
    for _ in range(2):  # the second time from the array cache
        dataset = data.load(f"folder:{split}")
        assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (20, 8, 6)
        validation = sorted(dataset.validation.images[:, 0, 0, 0])
        assert validation == [60, 61, 62, 63, 220, 221, 222, 223]
        assert dataset.validation.labels.tolist() == [0] * 4 + [1] * 4
        assert sorted(dataset.train.images[:, 0, 0, 0]) == [*range(40, 50), *range(200, 210)]
    shutil.rmtree(split / "validation")
    assert len(data.load(f"folder:{split}").validation) == 4  # a fifth of those for training


def test_classes_of_validation_images_must_be_among_those_for_training(split):
    for name in ("dark", "light", "gray"):
        save_image(split / "train" / name / "more.png", 120)
        save_image(split / "test" / name / "more.png", 120)
    for name in ("dark", "light"):
        save_image(split / "validation" / name / "0.png", 120)
    assert np.bincount(data.load(f"folder:{split}").validation.labels).tolist() == [1, 0, 1]
    save_image(split / "validation" / "drak" / "0.png", 120)
    with pytest.raises(ConfigError, match="train and .*validation have different classes: only one has drak"):
        data.load(f"folder:{split}")


@pytest.mark.parametrize("name", ["val", "valid"])
def test_a_misnamed_folder_of_validation_images_is_refused(split, name):
    shutil.copytree(split / "test", split / name)
    with pytest.raises(ConfigError, match=f"doesn't read the folder .*{name}: rename it to validation"):
        data.load(f"folder:{split}")


def test_otherwise_a_fifth_of_each_class_is_for_the_test(tmp_path):
    for name, shade in SHADES.items():
        for i in range(20):
            save_image(tmp_path / "all" / name / f"{i}.jpg", shade + i)
    dataset = data.load(f"folder:{tmp_path / 'all'}")
    assert np.bincount(dataset.test.labels).tolist() == [4, 4]
    assert len(dataset.train) + len(dataset.validation) == 32
    again = data.load(f"folder:{tmp_path / 'all'}")
    np.testing.assert_array_equal(dataset.test.images, again.test.images)


def test_images_of_several_sizes_need_a_size(split):
    save_image(split / "train" / "dark" / "large.png", 45, (20, 12))
    with pytest.raises(ConfigError, match=r"have 2 sizes \(heights from 8 to 20\).*folder:.*@64"):
        data.load(f"folder:{split}")
    assert data.load(f"folder:{split}@16").image_shape == (16, 16, 3)


def test_a_changed_folder_is_read_again(split):
    before = data.load(f"folder:{split}")
    save_image(split / "train" / "dark" / "more.png", 99)
    after = data.load(f"folder:{split}")
    assert len(after.images) == len(before.images) + 1
    assert after.checksum != before.checksum


def test_a_folder_may_have_the_longest_name_that_files_have(split):
    longest = split.rename(split.with_name("𠀀" * 63))  # 252 bytes, letters
    for _ in range(2):  # the second time from the array cache
        assert len(data.load(f"folder:{longest}").train) == 16


def test_other_folders_are_refused(split, tmp_path):
    with pytest.raises(ConfigError, match="16384 pixels per side at most"):
        data.load("folder:/nowhere@9999999999")
    with pytest.raises(ConfigError, match="there is no folder '/nowhere' of image files"):
        data.load("folder:/nowhere")
    with pytest.raises(ConfigError, match="fewer than two classes"):
        data.load(f"folder:{split / 'train' / 'dark'}")
    shutil.move(split / "test" / "dark", split / "test" / "drak")
    with pytest.raises(ConfigError, match="have different classes: only one has dark, drak"):
        data.load(f"folder:{split}")


def test_too_few_images_for_a_test_set_are_refused(tmp_path):
    for name, shade in SHADES.items():
        save_image(tmp_path / "few" / name / "0.png", shade)
    with pytest.raises(ConfigError, match="has 2 image files: at least 5 are needed.* Add images"):
        data.load(f"folder:{tmp_path / 'few'}")


def test_the_message_names_a_damaged_image_file(split):
    (split / "train" / "dark" / "3.png").write_bytes(b"no image")
    with pytest.raises(KappError, match=r"3\.png"):
        data.load(f"folder:{split}")


def test_images_are_decoded_on_disk_and_never_all_in_memory(tmp_path, split, monkeypatch):
    data.load(f"folder:{split}@64")  # imports happen here
    for name, shade in SHADES.items():
        save_image(tmp_path / "many" / name / "0.png", shade)
        for i in range(1, 300):
            os.link(tmp_path / "many" / name / "0.png", tmp_path / "many" / name / f"{i}.png")
    monkeypatch.setattr("kapp.data.dataset.CHUNK", 20)
    tracemalloc.start()
    dataset = data.load(f"folder:{tmp_path / 'many'}@64")
    assert dataset.checksum
    assert dataset.channel_stats
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dataset.images.nbytes == 600 * 64 * 64 * 3
    assert peak < dataset.images.nbytes / 4
