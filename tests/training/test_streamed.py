"""A streamed data set, whose images come with each batch, trains as one whose images are on the device."""

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Augmentation
from kapp.training import Distiller, Learner, TeacherLogits, loop
from kapp.training.linear_probe import LinearProbe, replace_head, set_trainable
from tests.helpers import untimed_metrics
from tests.training.helpers import DETAILS, hparams, new_run, state_of

AUGMENTATION = Augmentation(1)


def network(notation="6c-mp-d0.3-8fc-3fc", seed=0) -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


def on_labels(dataset, folder) -> Learner:
    return Learner(network(), dataset, AUGMENTATION)


def from_live_teachers(dataset, folder) -> Learner:
    return Distiller([network("8fc-3fc", 1), network("4c-3fc", 2)], network(), dataset, AUGMENTATION)


def from_cached_logits(dataset, folder) -> Learner:
    return Distiller(TeacherLogits(network("8fc-3fc", 1), dataset, AUGMENTATION, folder=folder), network())


def linear_probe(dataset, folder) -> Learner:
    split = replace_head(network(), 3)
    set_trainable(split.backbone, False)
    return LinearProbe(split, dataset, AUGMENTATION)


@pytest.mark.parametrize("make", [on_labels, from_live_teachers, from_cached_logits, linear_probe])
def test_each_epoch_has_the_same_bits(make, tiny_npz, tmp_path):
    runs, states = [], []
    for streamed in (False, True):
        dataset = data.load(f"npz:{tiny_npz}", streamed=streamed)
        learner = make(dataset, tmp_path / f"logits-{streamed}")
        assert (learner.images is None) == streamed
        learner.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        runs += [new_run(tmp_path / str(streamed))]
        loop.fit(learner, dataset, runs[-1], hparams(epochs=3), seed=3)
        loop.score_and_save(learner, dataset, runs[-1], hparams(epochs=3), DETAILS)
        states += [state_of(learner.network)]
    assert untimed_metrics(runs[0]) == untimed_metrics(runs[1])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)
    assert runs[0].result.test_loss == runs[1].result.test_loss


def test_large_data_sets_are_streamed_by_default(tiny_npz, monkeypatch):
    name = f"npz:{tiny_npz}"
    assert not data.load(name).streamed
    monkeypatch.setattr("kapp.data.dataset.MAX_RESIDENT_BYTES", 250 * 8 * 8 * 3 - 1)
    assert data.load(name).streamed
    assert not data.load(name, streamed=False).streamed
