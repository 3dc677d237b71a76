import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kapp import data
from kapp.data import array_cache
from kapp.data.array_cache import disk_array
from kapp.data.sources import shapes
from kapp.errors import KappError


@pytest.fixture
def few_shapes(monkeypatch):
    monkeypatch.setattr(shapes, "TRAIN_IMAGES", 50)
    monkeypatch.setattr(shapes, "TEST_IMAGES", 10)


def test_the_second_load_reads_the_cache(tmp_path, few_shapes, monkeypatch):
    first = data.load("shapes:far", data_dir=str(tmp_path))
    monkeypatch.setattr(shapes, "draw", None)  # a second drawing would fail
    second = data.load("shapes:far", data_dir=str(tmp_path))
    assert isinstance(second.images, np.memmap)
    np.testing.assert_array_equal(first.images, second.images)
    assert first.checksum == second.checksum
    assert (tmp_path / "arrays" / "shapes_far-1" / "manifest.json").is_file()


def test_two_processes_may_fill_the_cache_at_the_same_time(tmp_path):
    """The second one reads the arrays that the first one wrote."""
    created = []

    def create():
        created.append(1)
        time.sleep(0.2)
        return array_cache.Arrays(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int32), 2, ("a", "b"))

    (tmp_path / ".4242-set").mkdir()  # by a process that was killed
    with ThreadPoolExecutor(2) as pool:
        loaded = [pool.submit(array_cache.load_or_create, tmp_path / "set", create) for _ in range(2)]
    assert [each.result().num_train for each in loaded] == [2, 2]
    assert created == [1, 1]  # both found no cache
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "set"]


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "manifest.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"null", b"{}", b'{"train": "x"}', b"\xff", "folder"])
def test_the_message_names_a_damaged_cache(tmp_path, few_shapes, name, content):
    data.load("shapes", data_dir=str(tmp_path))
    file = tmp_path / "arrays" / "shapes-1" / name
    before = file.read_bytes()
    file.unlink()
    if content == "folder":
        file.mkdir()
    else:
        file.write_bytes(before[:-3] if content is None else content)
    with pytest.raises(KappError, match="arrays/shapes-1.* is damaged .*Delete the folder"):
        data.load("shapes", data_dir=str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system can't reserve disk space")
def test_a_full_disk_is_reported_before_images_are_decoded(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = "cannot write the data cache .*: No space left on device.*--data-dir"
    with pytest.raises(KappError, match=message):
        disk_array((1, 8, 8, 3), tmp_path)
