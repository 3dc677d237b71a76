"""A streamed data set, whose images come with each batch, trains as one whose images are on the device."""

import keras
import numpy as np
import pytest

from kapp import data
from kapp.training import loop
from tests.helpers import untimed_metrics
from tests.training.helpers import DETAILS, LEARNERS, hparams, new_run, state_of


@pytest.mark.parametrize("make", LEARNERS)
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
