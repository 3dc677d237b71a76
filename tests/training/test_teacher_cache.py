"""Cached logits train a student as the live teachers do, on the backend of this process."""

import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Augmentation, pipelines, sampling
from kapp.errors import ConfigError, KappError
from kapp.models import keras_file
from kapp.training import Distiller, TeacherEnsemble, TeacherLogits, loop, teacher_cache
from tests.helpers import crop_and_flip
from tests.training.helpers import hparams, new_run, predict

AUGMENTATION, SEED = Augmentation(1), 3
WITHIN_FLOAT16 = {"rtol": 2**-10, "atol": 1e-4}


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")  # 160 to train on, 40 for validation, 50 to test


def network(seed: int = 1, notation: str = "4c-mp-d0.3-3fc") -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


@pytest.fixture
def student():
    return network(9, "8fc-3fc")


def confident() -> keras.Model:
    """A network with probabilities near 0 and 1, whose logarithms are large."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dense(3, kernel_initializer="he_normal")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Softmax()(x))


TEACHERS = {
    "one": ([network()], "logits"),
    "two": ([network(), network(2, "8fc-3fc")], "logits"),
    "two, probabilities": ([network(), network(2, "8fc-3fc")], "probabilities"),
    "softmax": ([confident()], "logits"),
}


def epoch_views(dataset, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
    order, view = sampling.epoch_plan(SEED, epoch, len(dataset.train), AUGMENTATION)
    return dataset.train.samples[order], view


def cache(dataset, folder, teachers=None, **settings) -> TeacherLogits:
    teachers = network() if teachers is None else teachers
    return TeacherLogits(teachers, dataset, AUGMENTATION, folder=folder, **settings)


def fail(*_):
    raise AssertionError("a teacher was used")


@pytest.mark.parametrize("name", TEACHERS)
def test_they_are_the_live_logits_within_float16(name, dataset, tmp_path):
    networks, ensemble = TEACHERS[name]
    sample, view = epoch_views(dataset)
    cached = cache(dataset, tmp_path, networks, ensemble=ensemble).get(sample, view)
    assert cached.dtype == np.float16
    images = [
        crop_and_flip(dataset.images[s], v, AUGMENTATION.crop_padding, AUGMENTATION.flip)
        for s, v in zip(sample, view)
    ]
    live = predict(TeacherEnsemble(networks, ensemble), np.stack(images))
    np.testing.assert_allclose(cached, live, **WITHIN_FLOAT16)
    if name == "softmax":
        assert cached.min() < -16  # the logarithm of a probability near 0


def test_logits_of_a_softmax_teacher_are_those_before_its_softmax(dataset, tmp_path):
    teacher = confident()
    teacher.layers[-2].set_weights([100 * weights for weights in teacher.layers[-2].get_weights()])
    kernel, bias = teacher.layers[-2].get_weights()
    sample = dataset.test.samples
    cached = cache(dataset, tmp_path, [teacher]).get(sample, np.full(len(sample), AUGMENTATION.identity))
    expected = dataset.images[sample].reshape(len(sample), -1).astype(float) @ kernel + bias
    largest = float(np.finfo(np.float16).max)
    np.testing.assert_allclose(cached, np.clip(expected, -largest, largest), rtol=2e-3, atol=1)


def test_logits_of_another_format_are_not_used(dataset, tmp_path, monkeypatch):
    """Those of format 1 were logarithms of probabilities above 1e-7."""
    current = cache(dataset, tmp_path, TEACHERS["softmax"][0])
    monkeypatch.setattr(teacher_cache, "FORMAT", 1)
    earlier = cache(dataset, tmp_path, TEACHERS["softmax"][0])
    earlier.get(*epoch_views(dataset))
    assert earlier.exists
    assert not current.exists


@pytest.mark.parametrize(
    ("name", "validate_every"),
    [("one", None), ("softmax", None), ("two", 100)],  # 100: Keras's epochs begin within an epoch plan
)
def test_they_train_as_the_live_teachers_do(name, validate_every, dataset, tmp_path):
    networks, ensemble = TEACHERS[name]
    rows = []
    for kind in ("live", "cached"):
        teacher = TeacherEnsemble(networks, ensemble)
        if kind == "cached":
            teacher = cache(dataset, tmp_path, networks, ensemble=ensemble)
        distiller = Distiller(teacher, network(9, "8fc-3fc"), dataset, AUGMENTATION)
        distiller.compile(keras.optimizers.SGD(0.05), distillation_loss="prob_mse", label_weight=0.2)
        run = new_run(tmp_path / kind)
        loop.fit(distiller, dataset, run, hparams(epochs=3), seed=SEED, validate_every=validate_every)
        rows.append(run.metrics_rows())
    live, cached = rows
    assert len(cached) == len(live)
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose([r[column] for r in cached], [r[column] for r in live], rtol=2e-3)
    for column in ("agreement", "val_agreement"):
        np.testing.assert_allclose([r[column] for r in cached], [r[column] for r in live], atol=0.02)
    assert cached[-1]["loss"] < cached[0]["loss"]


def test_a_distiller_with_cached_logits_has_no_teacher_network(dataset, student, tmp_path):
    distiller = Distiller(cache(dataset, tmp_path), student)
    own = [*student.non_trainable_variables, distiller.images, distiller.labels, distiller.teacher.rows]
    assert len(distiller.non_trainable_variables) == len(own)


def test_complete_logits_need_no_teacher(dataset, tmp_path, monkeypatch):
    file = tmp_path / "teacher.keras"
    network().save(file)
    first = cache(dataset, tmp_path, [file]).get(*epoch_views(dataset))
    monkeypatch.setattr(keras_file, "load", fail)
    again = cache(dataset, tmp_path, [file])
    assert again.exists
    assert again.get(*epoch_views(dataset)).tobytes() == first.tobytes()
    assert cache(dataset, tmp_path, str(file)).file == again.file
    with pytest.raises(AssertionError, match="a teacher was used"):
        again.get(*epoch_views(dataset, epoch=1))


def test_logits_do_not_depend_on_the_views_computed_with_them(dataset, tmp_path):
    sample, view = epoch_views(dataset)
    at_once = cache(dataset, tmp_path / "a").get(sample, view)
    in_parts = cache(dataset, tmp_path / "b")
    for part in (slice(100, 160), slice(0, 7), slice(None)):
        in_parts.get(sample[part], view[part])
    assert in_parts.get(sample, view).tobytes() == at_once.tobytes()


def test_more_views_than_one_batch(dataset, tmp_path, monkeypatch):
    expected = cache(dataset, tmp_path / "a").get(*epoch_views(dataset))
    monkeypatch.setattr(teacher_cache, "BATCH_SIZE", 64)
    np.testing.assert_allclose(
        cache(dataset, tmp_path / "b").get(*epoch_views(dataset)), expected, **WITHIN_FLOAT16
    )


def test_other_images_have_their_identity_view_only(dataset, tmp_path):
    logits = cache(dataset, tmp_path)
    samples = np.concatenate([dataset.validation.samples, dataset.test.samples])
    cached = logits.get(samples, np.full(len(samples), AUGMENTATION.identity))
    np.testing.assert_allclose(cached, predict(network(), dataset.images[samples]), **WITHIN_FLOAT16)
    with pytest.raises(ConfigError, match="identity view only"):
        logits.get(samples, np.zeros(len(samples), int))


def test_different_experiments_have_different_stores(dataset, tiny_npz, tmp_path):
    one, two = network(), network(2)
    stores = [
        cache(dataset, tmp_path),
        cache(dataset, tmp_path, [two]),
        cache(dataset, tmp_path, [one, two]),
        cache(dataset, tmp_path, [one, two], ensemble="probabilities"),
        cache(data.load(f"npz:{tiny_npz}", train_images=60), tmp_path),
        TeacherLogits([one], dataset, Augmentation(1, flip=False), folder=tmp_path),
        TeacherLogits([one], dataset, Augmentation(2), folder=tmp_path),
    ]
    changed = dataset.images.copy()
    changed[0, 0, 0, 0] ^= 1
    parts = (dataset.train, dataset.validation, dataset.test)
    stores.append(cache(data.Dataset("tiny", changed, dataset.labels, dataset.classes, *parts), tmp_path))
    assert len({store.file for store in stores}) == len(stores)
    # With one teacher nothing is averaged.
    assert cache(dataset, tmp_path, ensemble="probabilities").file == stores[0].file
    assert cache(dataset, tmp_path, one).file == stores[0].file


def test_a_network_is_used_as_it_was_when_the_cache_was_made(dataset, tmp_path):
    teacher = network()
    before = cache(dataset, tmp_path, [teacher])
    expected = cache(dataset, tmp_path / "other", [network()]).get(*epoch_views(dataset))
    teacher.set_weights(network(5).get_weights())
    assert cache(dataset, tmp_path, [teacher]).file != before.file
    assert before.get(*epoch_views(dataset)).tobytes() == expected.tobytes()


def test_a_teacher_file_that_changes_is_refused(dataset, tmp_path):
    file = tmp_path / "teacher.keras"
    network().save(file)
    logits = cache(dataset, tmp_path, [file])
    network(2).save(file)
    with pytest.raises(KappError, match=f"{file} has changed since this run began"):
        logits.get(*epoch_views(dataset))
    assert (np.load(logits.file) == 0).all()


def flip_a_bit(file):
    table = np.load(file, mmap_mode="r+")
    row = np.flatnonzero(table[:, -1])[7]
    table[row, 1] ^= 1 << 9


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def change_the_shape(file):
    np.save(file, np.zeros((5, 4), np.uint16))


def write_garbage(file):
    file.write_bytes(b"garbage")


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, change_the_shape, write_garbage])
def test_a_damaged_store_is_refused_and_computed_again_when_deleted(damage, dataset, tmp_path):
    logits = cache(dataset, tmp_path)
    first = logits.get(*epoch_views(dataset))
    damage(logits.file)
    with pytest.raises(KappError, match=f"teacher logits in {logits.file} are damaged .* Delete that file"):
        logits.get(*epoch_views(dataset))
    logits.file.unlink()
    assert logits.get(*epoch_views(dataset)).tobytes() == first.tobytes()


def test_the_file_of_other_logits_is_refused(dataset, tmp_path):
    """As by a file that was copied to the wrong folder: the shape is the same."""
    logits, others = cache(dataset, tmp_path), cache(dataset, tmp_path, network(2))
    logits.get(*epoch_views(dataset))
    others.get(*epoch_views(dataset))
    shutil.copy(others.file, logits.file)
    with pytest.raises(KappError, match="or it is the file of other logits"):
        logits.get(*epoch_views(dataset))


def test_the_file_of_another_epoch_is_refused(dataset, tmp_path):
    random = Augmentation(1, cutmix=1.0)
    logits = TeacherLogits(network(), dataset, random, folder=tmp_path)
    for epoch in range(2):
        logits.get_epoch(SEED, epoch, 160)
    first, second = sorted(logits.folder.glob("seed_*/*.npy"))
    shutil.copy(first, second)
    logits.get_epoch(SEED, 0, 160)
    with pytest.raises(KappError, match="epoch_0001.npy are damaged"):
        logits.get_epoch(SEED, 1, 160)


def test_a_row_without_its_checksum_is_missing(dataset, tmp_path):
    """As a process leaves it that is killed between the two writes."""
    logits = cache(dataset, tmp_path)
    first = logits.get(*epoch_views(dataset))
    table = np.load(logits.file, mmap_mode="r+")
    table[:, 0] = 0
    table[:, -1] = 0
    assert cache(dataset, tmp_path).get(*epoch_views(dataset)).tobytes() == first.tobytes()


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_any_changed_bit_changes_the_checksum(classes, tmp_path):
    random = np.random.default_rng(0)
    table = teacher_cache._Table(tmp_path / "logits.npy", tmp_path, (1, classes + 1))
    bits = random.integers(0, 2**16, (1, classes)).astype(np.uint16)
    (expected,) = table.row_checksum(bits)
    assert expected != 0
    for place in random.integers(0, classes, 20):
        for bit in range(16):
            changed = bits.copy()
            changed[0, place] ^= 1 << bit
            assert table.row_checksum(changed)[0] != expected


def test_a_teacher_with_nan_logits_is_refused(dataset, tmp_path):
    broken = network()
    broken.layers[-1].bias.assign([float("nan"), 0, 0])
    with pytest.raises(KappError, match="logits are NaN or infinite"):
        cache(dataset, tmp_path, [broken]).get(*epoch_views(dataset))


def test_the_loss_is_nan_where_no_logits_were_loaded(dataset, student, tmp_path):
    distiller = Distiller(cache(dataset, tmp_path), student)
    distiller.compile("sgd")
    batches = pipelines.eval_batches(dataset.validation.samples, 20, AUGMENTATION)
    assert np.isnan(distiller.evaluate(batches, verbose=0, return_dict=True)["loss"])


def test_a_cache_that_does_not_fit_is_refused(dataset, tiny_npz, student, tmp_path):
    logits = cache(dataset, tmp_path)
    for other in ((data.load(f"npz:{tiny_npz}"), AUGMENTATION), (dataset, Augmentation(2))):
        with pytest.raises(ConfigError, match="for another data set or augmentation"):
            Distiller(logits, student, *other)
    with pytest.raises(ConfigError, match="has 3 classes, student .* 5"):
        Distiller(logits, models.build("8fc-5fc", 5, image_shape=(8, 8, 3)))
    with pytest.raises(ConfigError, match="has 5 classes, the data set has 3"):
        cache(dataset, tmp_path, [models.build("8fc-5fc", 5, image_shape=(8, 8, 3))])
    with pytest.raises(ConfigError, match="at least one teacher"):
        cache(dataset, tmp_path, [])
    with pytest.raises(ConfigError, match="ensemble is 'votes'"):
        cache(dataset, tmp_path, ensemble="votes")
    distiller = Distiller(logits, student)
    distiller.compile("sgd")
    with pytest.raises(ConfigError, match="train on batches of indices"):
        distiller.fit(dataset.train.images, dataset.train.labels, verbose=0)


def test_size_is_that_of_the_file(dataset, tmp_path, monkeypatch):
    logits = cache(dataset, tmp_path)
    logits.get(*epoch_views(dataset))
    size = logits.size(epochs=1)
    assert size == logits.size(epochs=300) == (160 * 18 + 90) * 4 * 2
    assert logits.file.stat().st_size == size + 128  # the header of .npy
    assert logits.fits(epochs=300)
    monkeypatch.setattr(teacher_cache, "MAX_BYTES", 1000)
    assert not logits.fits(epochs=1)


FILL = """
import sys, time
from pathlib import Path
from kapp import data
from kapp.data import Augmentation, sampling
from kapp.training import TeacherLogits, teacher_cache

npz, folder, first, last, pause = sys.argv[1:]
teacher_cache.BATCH_SIZE = 10
dataset = data.load(f"npz:{npz}")
logits = TeacherLogits([Path(folder) / "teacher.keras"], dataset, Augmentation(1), folder=Path(folder))
compute, computed = logits._compute, []

def slowly(batch):
    computed.extend(batch["sample"])
    time.sleep(float(pause))
    return compute(batch)

logits._compute = slowly
for epoch in range(int(first), int(last)):
    order, view = sampling.epoch_plan(3, epoch, len(dataset.train), Augmentation(1))
    logits.get(dataset.train.samples[order], view)
print(len(computed))
"""


def fill(npz, folder, first: int, last: int, pause: float = 0.0) -> subprocess.Popen:
    """A process that gets the logits of some epochs and prints how many it computed."""
    arguments = [sys.executable, "-c", FILL, *map(str, (npz, folder, first, last, pause))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_fill_one_store(tiny_npz, dataset, tmp_path):
    file = tmp_path / "teacher.keras"
    network().save(file)
    processes = [fill(tiny_npz, tmp_path, 0, 3, 0.02), fill(tiny_npz, tmp_path, 1, 4, 0.02)]
    computed = [int(process.communicate(timeout=120)[0].split()[-1]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    views = {pair for epoch in range(4) for pair in zip(*epoch_views(dataset, epoch))}
    assert sum(computed) == len(views)  # none twice
    shared = cache(dataset, tmp_path, [file])
    alone = cache(dataset, tmp_path / "alone", [file])
    shared._networks = fail
    for epoch in range(4):
        one, other = (each.get(*epoch_views(dataset, epoch)) for each in (shared, alone))
        np.testing.assert_allclose(one, other, **WITHIN_FLOAT16)


def test_a_kill_leaves_no_wrong_row(tiny_npz, dataset, tmp_path):
    file = tmp_path / "teacher.keras"
    network().save(file)
    logits = cache(dataset, tmp_path, [file])
    process = fill(tiny_npz, tmp_path, 0, 1, 0.2)
    number = logits._row_numbers(*epoch_views(dataset))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (logits._table.read(number)[:, -1] != 0).sum() < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    missing = logits._table.missing(logits._table.read(number))
    assert 0 < missing.sum() < len(missing)
    expected = cache(dataset, tmp_path / "alone", [file]).get(*epoch_views(dataset))
    np.testing.assert_allclose(logits.get(*epoch_views(dataset)), expected, **WITHIN_FLOAT16)
