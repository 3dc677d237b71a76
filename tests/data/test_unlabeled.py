"""Training images without labels: where they come from, and what stays as it is."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from kapp import data
from kapp.data import sources, validation_overlap
from kapp.errors import ConfigError, KappError

EXTRA = np.random.default_rng(7).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)


@pytest.fixture
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")  # 160 to train on, 40 for validation, 50 to test


def test_the_labeled_images_are_the_first_of_the_stratified_order(dataset):
    hidden, first = dataset.hide_labels(45), dataset.first_labeled(45)
    is_labeled = hidden.labels[hidden.train.samples] >= 0
    np.testing.assert_array_equal(hidden.train.samples[is_labeled], first.train.samples)
    np.testing.assert_array_equal(first.train.samples, dataset.train.samples[:45])
    assert np.abs(np.bincount(first.train.labels) - 15).max() <= 1
    assert (hidden.labeled_images, len(hidden.train)) == (45, 160)
    assert (first.labeled_images, len(first.train)) == (45, 45)
    kept = dataset.hide_labels(30)  # fewer are part of more
    assert {*kept.train.samples[:30]} <= {*first.train.samples}


def test_what_is_not_trained_on_keeps_its_labels(dataset):
    for changed in (dataset.hide_labels(20), dataset.first_labeled(20), dataset.add_unlabeled(EXTRA)):
        for name in ("validation", "test"):
            before, after = getattr(dataset, name), getattr(changed, name)
            np.testing.assert_array_equal(after.images, before.images)
            np.testing.assert_array_equal(after.labels, before.labels)
        assert changed.checksum == dataset.checksum
    assert (dataset.labels >= 0).all()  # the data set itself didn't change


@pytest.mark.parametrize("streamed", [None, True])
def test_images_without_labels_are_trained_on_and_nothing_else(dataset, streamed, tmp_path):
    more = dataset.hide_labels(50).add_unlabeled(EXTRA, streamed, tmp_path)
    assert (len(more.train), more.labeled_images, more.unlabeled_images) == (190, 50, 30)
    assert more.streamed == bool(streamed)
    np.testing.assert_array_equal(more.images[:250], dataset.images)
    np.testing.assert_array_equal(more.images[more.train.samples[160:]], EXTRA)
    assert (more.train.labels[50:] == -1).all()
    assert not {*more.train.samples} & {*more.validation.samples, *more.test.samples}
    assert more.unlabeled_sha256 != dataset.add_unlabeled(EXTRA[::-1]).unlabeled_sha256


def test_images_that_are_added_later_are_counted_with_the_first(dataset):
    once, other = dataset.add_unlabeled(EXTRA[:10]), dataset.add_unlabeled(EXTRA[20:])
    assert once.unlabeled_sha256 == hashlib.sha256(EXTRA[:10].tobytes()).hexdigest()
    both = once.add_unlabeled(EXTRA[10:])
    assert (len(both.train), both.unlabeled_images, both.labeled_images) == (190, 30, 160)
    assert both.unlabeled_sha256 not in (
        once.unlabeled_sha256,
        dataset.add_unlabeled(EXTRA[10:]).unlabeled_sha256,
        other.add_unlabeled(EXTRA[10:]).unlabeled_sha256,
    )


def test_large_sets_are_streamed(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr("kapp.data.dataset.MAX_RESIDENT_BYTES", 260 * 8 * 8 * 3)
    assert dataset.add_unlabeled(EXTRA, folder=tmp_path).streamed
    assert not dataset.add_unlabeled(EXTRA[:10], folder=tmp_path).streamed


def test_validation_and_test_images_are_refused(dataset):
    for part in (dataset.validation, dataset.test):
        images = np.concatenate([EXTRA, part.images[:2]])
        with pytest.raises(ConfigError, match="2 of the 32 images without labels are validation or test"):
            dataset.add_unlabeled(images)
    dataset.add_unlabeled(dataset.train.images[:2])


def test_more_labels_than_images_are_refused(dataset):
    for method in (dataset.hide_labels, dataset.first_labeled):
        with pytest.raises(ConfigError, match="--labeled is 161, but npz:.* has 160 training images"):
            method(161)


def test_a_file_has_one_array_of_images(tmp_path):
    np.savez(tmp_path / "one.npz", EXTRA)
    np.savez(tmp_path / "named.npz", x=EXTRA, names=np.arange(30))
    for name in ("one", "named"):
        found = sources.load_unlabeled(f"npz:{tmp_path / name}.npz", (8, 8, 3))
        np.testing.assert_array_equal(found, EXTRA)
    np.savez(tmp_path / "gray.npz", EXTRA[..., 0])
    assert sources.load_unlabeled(f"npz:{tmp_path / 'gray.npz'}", (8, 8, 1)).shape == (30, 8, 8, 1)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=EXTRA, b=EXTRA)
    np.savez(tmp_path / "float.npz", EXTRA.astype("float32"))
    np.savez(tmp_path / "number.npz", np.int64(3))
    np.savez(tmp_path / "images.npz", EXTRA)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "images.npz").read_bytes()[:500])
    for name, error, message in (
        ("two", ConfigError, "contains a, b: .* needs one array, or one called x"),
        ("float", ConfigError, "arr_0 is float32"),
        ("number", ConfigError, r"arr_0 is int64 \(\): images must be uint8"),
        ("cut", KappError, "damaged or no .npz file"),
    ):
        with pytest.raises(error, match=message):
            sources.load_unlabeled(f"npz:{tmp_path / name}.npz", (8, 8, 3))
    with pytest.raises(ConfigError, match=r"images of \(8, 8, 3\), the data set has images of \(9, 9, 3\)"):
        sources.load_unlabeled(f"npz:{tmp_path / 'images.npz'}", (9, 9, 3))


def test_a_folder_is_read_with_its_subfolders_and_resized(tmp_path):
    for i, place in enumerate(("b.png", "a/c.png", "a/d/e.png")):
        (tmp_path / "files" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(np.repeat(EXTRA[i], 2, 0), 2, 1)).save(tmp_path / "files" / place)
    name = f"folder:{tmp_path / 'files'}"
    images = sources.load_unlabeled(name, (16, 16, 3), str(tmp_path))
    assert images.shape == (3, 16, 16, 3)
    found = {image[::2, ::2].tobytes() for image in images}
    assert found == {EXTRA[i].tobytes() for i in range(3)}
    assert sources.load_unlabeled(name, (8, 8, 3), str(tmp_path)).shape == (3, 8, 8, 3)
    (tmp_path / "files" / "b.png").unlink()
    assert len(sources.load_unlabeled(name, (16, 16, 3), str(tmp_path))) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "--unlabeled is cifar10: it must be npz:PATH or folder:PATH"),
        ("npz:", "it must be npz:PATH or folder:PATH"),
        ("npz:gone.npz", "there is no file 'gone.npz'"),
        (f"npz:{'a' * 300}.npz", "there is no file 'aaa"),
        ("folder:gone", "there is no folder 'gone'"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        sources.check_unlabeled(name)


def test_the_samples_of_a_run_are_those_of_the_data_set(dataset, monkeypatch):
    """A teacher that was trained with further images is known by its images of the data set."""

    class Finished:
        class config:
            data_sha256 = dataset.checksum

        class result:
            train_images, unlabeled_images = 190, 30

        def predictions(self):
            return type("Predictions", (), {"validation_samples": dataset.validation.samples})

    samples = validation_overlap.training_samples(Finished(), dataset)
    np.testing.assert_array_equal(np.sort(samples), np.sort(dataset.train.samples))
