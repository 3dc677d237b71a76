"""Stored answers teach as the live teachers do, on the backend of this process."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Views, epochs, feeds
from kapp.errors import Failure, WrongValue
from kapp.runs import Run
from kapp.training import Distiller, TeacherAnswers, answers, pretrained
from kapp.training.fit import fit
from kapp.training.teachers import Teachers
from tests.data.test_views import plainly

VIEWS, SEED, BATCH = Views(1), 3, 20
WITHIN_FLOAT16 = {"rtol": 2**-10, "atol": 1e-4}


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")  # 160 to train on, 40 to select by, 50 to test


@pytest.fixture
def student():
    return models.build("8fc-3fc", 3, image_shape=(8, 8, 3), seed=9)


def teacher(seed: int = 1, notation: str = "4c-mp-d0.3-3fc") -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


def sure() -> keras.Model:
    """One whose probabilities are nearly 0 and 1: their logarithms go far."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dense(3, kernel_initializer="he_normal")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Softmax()(x))


TEACHERS = {
    "one": ([teacher()], "logits"),
    "two": ([teacher(), teacher(2, "8fc-3fc")], "logits"),
    "two, probabilities": ([teacher(), teacher(2, "8fc-3fc")], "probabilities"),
    "softmax": ([sure()], "logits"),
}


def numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def shown(dataset, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
    order, view = epochs.table(SEED, epoch, len(dataset.train), VIEWS)
    return dataset.train.samples[order], view


def made(dataset, folder, teachers=None, **settings) -> TeacherAnswers:
    return TeacherAnswers(
        [teacher()] if teachers is None else teachers, dataset, VIEWS, folder=folder, **settings
    )


def nobody(*_):
    raise AssertionError("a teacher was asked")


@pytest.mark.parametrize("name", TEACHERS)
def test_they_are_the_live_answers_within_float16(name, dataset, tmp_path):
    networks, ensemble = TEACHERS[name]
    sample, view = shown(dataset)
    stored = made(dataset, tmp_path, networks, ensemble=ensemble).of(sample, view)
    assert stored.dtype == np.float16
    images = np.stack([plainly(dataset.images[s], v, VIEWS.shift, VIEWS.flip) for s, v in zip(sample, view)])
    live = numpy(Teachers(networks, ensemble)(keras.ops.convert_to_tensor(images)))
    np.testing.assert_allclose(stored, live, **WITHIN_FLOAT16)
    if name == "softmax":
        assert stored.min() < -16  # the logarithm of what is nearly 0


@pytest.mark.parametrize(
    ("name", "validate_every"),
    [("one", None), ("softmax", None), ("two", 100)],  # 100: rounds begin in the middle of an epoch
)
def test_they_train_as_the_live_teachers_do(name, validate_every, dataset, tmp_path):
    networks, ensemble = TEACHERS[name]
    rows = []
    for way in ("live", "stored"):
        student = models.build("8fc-3fc", 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=9)
        if way == "live":
            distiller = Distiller(student, networks, dataset, VIEWS, ensemble)
        else:
            distiller = Distiller(student, answers=made(dataset, tmp_path, networks, ensemble=ensemble))
        distiller.compile(keras.optimizers.SGD(0.05), objective="prob_mse", label_weight=0.2)
        run = Run.start(tmp_path / way, {"recipe": "test"})
        fit(distiller, dataset, run, epochs=3, batch_size=BATCH, seed=SEED, validate_every=validate_every)
        rows.append(run.epochs())
    live, stored = rows
    assert len(stored) == len(live)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose([r[name] for r in stored], [r[name] for r in live], rtol=2e-3)
    for name in ("agreement", "val_agreement"):
        np.testing.assert_allclose([r[name] for r in stored], [r[name] for r in live], atol=0.02)
    assert stored[-1]["loss"] < stored[0]["loss"]


def test_no_teacher_is_part_of_a_distiller_with_answers(dataset, student, tmp_path):
    distiller = Distiller(student, answers=made(dataset, tmp_path))
    assert distiller.teachers == ()
    held = [*student.non_trainable_variables, distiller.images, distiller.labels, distiller.shown]
    assert len(distiller.non_trainable_variables) == len(held)


def test_what_is_there_takes_no_teacher(dataset, tmp_path, monkeypatch):
    file = tmp_path / "teacher.keras"
    teacher().save(file)
    first = made(dataset, tmp_path, [file]).of(*shown(dataset))
    monkeypatch.setattr(pretrained, "load", nobody)
    again = made(dataset, tmp_path, [file])
    assert again.begun
    assert again.of(*shown(dataset)).tobytes() == first.tobytes()
    with pytest.raises(AssertionError, match="a teacher was asked"):
        again.of(*shown(dataset, epoch=1))


def test_an_answer_is_the_same_whatever_else_is_asked(dataset, tmp_path):
    sample, view = shown(dataset)
    at_once = made(dataset, tmp_path / "a").of(sample, view)
    by_and_by = made(dataset, tmp_path / "b")
    for part in (slice(100, 160), slice(0, 7), slice(None)):
        by_and_by.of(sample[part], view[part])
    assert by_and_by.of(sample, view).tobytes() == at_once.tobytes()


def test_a_set_larger_than_one_bulk(dataset, tmp_path, monkeypatch):
    whole = made(dataset, tmp_path / "a").of(*shown(dataset))
    monkeypatch.setattr(answers, "BULK", 64)
    np.testing.assert_allclose(made(dataset, tmp_path / "b").of(*shown(dataset)), whole, **WITHIN_FLOAT16)


def test_other_images_are_known_as_they_are_only(dataset, tmp_path):
    asked = made(dataset, tmp_path)
    samples = np.concatenate([dataset.validation.samples, dataset.test.samples])
    stored = asked.of(samples, np.full(len(samples), VIEWS.identity))
    live = numpy(Teachers(teacher())(keras.ops.convert_to_tensor(dataset.images[samples])))
    np.testing.assert_allclose(stored, live, **WITHIN_FLOAT16)
    with pytest.raises(WrongValue, match="kept of their identity view only"):
        asked.of(samples, np.zeros(len(samples), int))


def test_what_is_other_has_another_store(dataset, tiny_npz, tmp_path):
    one, two = teacher(), teacher(2)
    smaller = data.load(f"npz:{tiny_npz}", limit_train=60)
    stores = [
        made(dataset, tmp_path),
        made(dataset, tmp_path, [two]),
        made(dataset, tmp_path, [one, two]),
        made(dataset, tmp_path, [one, two], ensemble="probabilities"),
        made(smaller, tmp_path),
        TeacherAnswers([one], dataset, Views(1, flip=False), folder=tmp_path),
        TeacherAnswers([one], dataset, Views(2), folder=tmp_path),
    ]
    changed = dataset.images.copy()
    changed[0, 0, 0, 0] ^= 1
    parts = (dataset.train, dataset.validation, dataset.test)
    stores.append(made(data.Dataset("tiny", changed, dataset.labels, dataset.classes, *parts), tmp_path))
    assert len({store.file for store in stores}) == len(stores)
    assert (
        made(dataset, tmp_path, ensemble="probabilities").file == stores[0].file
    )  # of one teacher it's the same
    assert made(dataset, tmp_path, one).file == stores[0].file


def test_a_network_that_is_trained_on_keeps_its_earlier_answers_apart(dataset, tmp_path):
    caller = teacher()
    before = made(dataset, tmp_path, [caller])
    expected = made(dataset, tmp_path / "other", [teacher()]).of(*shown(dataset))
    caller.set_weights(teacher(5).get_weights())
    assert made(dataset, tmp_path, [caller]).file != before.file
    assert before.of(*shown(dataset)).tobytes() == expected.tobytes()


def test_a_file_that_changes_meanwhile_is_named(dataset, tmp_path):
    file = tmp_path / "teacher.keras"
    teacher().save(file)
    asked = made(dataset, tmp_path, [file])
    teacher(2).save(file)
    with pytest.raises(Failure, match=f"{file} was changed while it taught"):
        asked.of(*shown(dataset))
    assert np.isin(np.load(asked.file), 0).all()  # nothing of it was kept


def damage_by_a_bit(file):
    table = np.load(file, mmap_mode="r+")
    row = np.flatnonzero(table[:, -1])[7]
    table[row, 1] ^= 1 << 9


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def another_shape(file):
    np.save(file, np.zeros((5, 4), np.uint16))


def garbage(file):
    file.write_bytes(b"garbage")


@pytest.mark.parametrize("damage", [damage_by_a_bit, truncate, another_shape, garbage])
def test_a_damaged_store_is_named_with_the_way_out(damage, dataset, tmp_path):
    asked = made(dataset, tmp_path)
    first = asked.of(*shown(dataset))
    damage(asked.file)
    with pytest.raises(Failure, match=f"answers in {asked.file} are damaged .* Delete that file"):
        asked.of(*shown(dataset))
    asked.file.unlink()
    assert asked.of(*shown(dataset)).tobytes() == first.tobytes()


def test_answers_without_their_check_number_are_missing(dataset, tmp_path):
    """As a kill leaves them between the two writes."""
    asked = made(dataset, tmp_path)
    first = asked.of(*shown(dataset))
    table = np.load(asked.file, mmap_mode="r+")
    table[:, 0] = 0
    table[:, -1] = 0
    assert made(dataset, tmp_path).of(*shown(dataset)).tobytes() == first.tobytes()


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_any_changed_bit_changes_the_check_number(classes):
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**16, (1, classes)).astype(np.uint16)
    (expected,) = answers._check(bits)
    assert expected != 0
    for place in random.integers(0, classes, 20):
        for bit in range(16):
            changed = bits.copy()
            changed[0, place] ^= 1 << bit
            assert answers._check(changed)[0] != expected


def test_a_teacher_that_answers_nan_is_refused(dataset, tmp_path):
    broken = teacher()
    broken.layers[-1].bias.assign([float("nan"), 0, 0])
    with pytest.raises(Failure, match="a teacher answers NaN"):
        made(dataset, tmp_path, [broken]).of(*shown(dataset))


def test_what_was_not_looked_up_teaches_nothing_in_silence(dataset, student, tmp_path):
    distiller = Distiller(student, answers=made(dataset, tmp_path))
    distiller.compile("sgd")
    feed = feeds.scoring(dataset.validation.samples, 20, VIEWS)
    assert np.isnan(distiller.evaluate(feed, verbose=0, return_dict=True)["loss"])


def test_what_does_not_fit_is_refused(dataset, student, tmp_path):
    stored = made(dataset, tmp_path)
    with pytest.raises(WrongValue, match="takes no teachers, data set or views"):
        Distiller(student, teacher(), answers=stored)
    with pytest.raises(WrongValue, match="knows 3 classes, student .* 5"):
        Distiller(models.build("8fc-5fc", 5, image_shape=(8, 8, 3)), answers=stored)
    with pytest.raises(WrongValue, match="knows 5 classes, the data set has 3"):
        made(dataset, tmp_path, [models.build("8fc-5fc", 5, image_shape=(8, 8, 3))])
    with pytest.raises(WrongValue, match="at least one teacher"):
        made(dataset, tmp_path, [])
    with pytest.raises(WrongValue, match="ensemble is 'votes'"):
        made(dataset, tmp_path, ensemble="votes")
    distiller = Distiller(student, answers=stored)
    distiller.compile("sgd")
    with pytest.raises(WrongValue, match="feed indices .* or give the Distiller its teachers"):
        distiller.fit(dataset.train.images, dataset.train.labels, verbose=0)


def test_the_size_is_that_of_the_file(dataset, tmp_path):
    asked = made(dataset, tmp_path)
    asked.of(*shown(dataset))
    assert asked.size == (160 * 18 + 90) * 4 * 2
    assert asked.file.stat().st_size == asked.size + 128  # .npy's header
    assert asked.storable


def test_a_larger_set_than_the_limit_is_not_storable(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "LARGEST", 1000)
    assert not made(dataset, tmp_path).storable


FILL = """
import sys, time
from pathlib import Path
import numpy as np
from kapp import data
from kapp.data import Views, epochs
from kapp.training import TeacherAnswers, answers

npz, folder, first, last, pause = sys.argv[1:]
answers.BULK = 10
dataset = data.load(f"npz:{npz}")
asked = TeacherAnswers([Path(folder) / "teacher.keras"], dataset, Views(1), folder=Path(folder))
ask, counted = asked._asked, []

def slowly(sample, view):
    counted.extend(sample)
    time.sleep(float(pause))
    return ask(sample, view)

asked._asked = slowly
for epoch in range(int(first), int(last)):
    order, view = epochs.table(3, epoch, len(dataset.train), Views(1))
    asked.of(dataset.train.samples[order], view)
print(len(counted))
"""


def filling(npz, folder, first: int, last: int, pause: float = 0.0) -> subprocess.Popen:
    words = [sys.executable, "-c", FILL, *map(str, (npz, folder, first, last, pause))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_two_processes_fill_one_store(tiny_npz, dataset, tmp_path):
    file = tmp_path / "teacher.keras"
    teacher().save(file)
    both = [filling(tiny_npz, tmp_path, 0, 3, 0.02), filling(tiny_npz, tmp_path, 1, 4, 0.02)]
    asked = [int(process.communicate(timeout=120)[0].split()[-1]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    pairs = {(s, v) for epoch in range(4) for s, v in zip(*shown(dataset, epoch))}
    assert sum(asked) == len(pairs)  # none was asked for twice
    shared = made(dataset, tmp_path, [file])
    alone = made(dataset, tmp_path / "alone", [file])
    shared._loaded = nobody
    for epoch in range(4):
        np.testing.assert_allclose(
            shared.of(*shown(dataset, epoch)), alone.of(*shown(dataset, epoch)), **WITHIN_FLOAT16
        )


def test_a_kill_in_the_middle_of_a_fill_leaves_no_wrong_answer(tiny_npz, dataset, tmp_path):
    file = tmp_path / "teacher.keras"
    teacher().save(file)
    stored = made(dataset, tmp_path, [file])
    process = filling(tiny_npz, tmp_path, 0, 1, 0.2)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        held = stored._held(stored._rows(*shown(dataset))) if stored.begun else np.zeros((1, 4))
        if (held[:, -1] != 0).sum() >= 20:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left = answers._missing(stored._held(stored._rows(*shown(dataset))))
    assert 0 < left.sum() < len(left)
    expected = made(dataset, tmp_path / "alone", [file]).of(*shown(dataset))
    np.testing.assert_allclose(stored.of(*shown(dataset)), expected, **WITHIN_FLOAT16)
