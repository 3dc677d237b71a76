"""A data set whose images come with each batch, from disk, trains as one that lies where the compute is."""

import csv

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Views
from kapp.runs import Run
from kapp.training import Distiller, Learner, TeacherAnswers
from kapp.training.fit import finish, fit
from kapp.training.transfer import HeadLearner, set_trainable, with_new_head

VIEWS = Views(1)
NETWORK = "6c-mp-d0.3-8fc-3fc"


def network(notation=NETWORK, seed=0) -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


def on_labels(dataset, folder) -> Learner:
    return Learner(network(), dataset, VIEWS)


def from_live_teachers(dataset, folder) -> Learner:
    return Distiller(network(), [network("8fc-3fc", 1), network("4c-3fc", 2)], dataset, VIEWS)


def from_stored_answers(dataset, folder) -> Learner:
    answers = TeacherAnswers(network("8fc-3fc", 1), dataset, VIEWS, folder=folder / "answers")
    return Distiller(network(), answers=answers)


def head(dataset, folder) -> Learner:
    parts = with_new_head(network(), 3)
    set_trainable(parts.body, False)
    return HeadLearner(parts, dataset, VIEWS)


def trained(learner, dataset, run) -> tuple[list[dict], list[np.ndarray], dict]:
    """The rows of its metrics, its weights, its result."""
    learner.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    fit(learner, dataset, run, epochs=3, batch_size=20, seed=3)
    finish(learner, dataset, run, {})
    with open(run.metrics_file) as file:
        rows = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
                for row in csv.DictReader(file)]  # fmt: skip
    weights = [keras.ops.convert_to_numpy(variable) for variable in learner.network.variables]
    return rows, weights, run.result


@pytest.mark.parametrize("kind", [on_labels, from_live_teachers, from_stored_answers, head])
def test_each_epoch_is_the_same_bit_for_bit(kind, tiny_npz, tmp_path):
    left = []
    for streamed in (False, True):
        dataset = data.load(f"npz:{tiny_npz}", streamed=streamed)
        folder = tmp_path / str(streamed)
        learner = kind(dataset, folder)
        assert (learner.images is None) == streamed
        left += [trained(learner, dataset, Run.start(folder / "run", {"recipe": "none"}))]
    (rows, weights, result), (its_rows, its_weights, its_result) = left
    assert rows == its_rows
    for one, other in zip(weights, its_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert result["test_loss"] == its_result["test_loss"]


def test_images_that_take_too_much_are_streamed_unless_told_otherwise(tiny_npz, monkeypatch):
    name = f"npz:{tiny_npz}"
    assert not data.load(name).streamed
    monkeypatch.setattr(data, "RESIDENT", 250 * 8 * 8 * 3 - 1)
    assert data.load(name).streamed
    assert not data.load(name, streamed=False).streamed
