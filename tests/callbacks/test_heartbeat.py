"""The sign that a computation gives to the process that watches it."""

import keras
import numpy as np
import pytest

from kapp import progress
from kapp.callbacks import Heartbeat


@pytest.mark.parametrize("compute", ["fit", "evaluate", "predict"])
def test_each_computation_gives_a_sign(compute, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "BEAT_SECONDS", -1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    images, labels = np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32)
    arguments = (images,) if compute == "predict" else (images, labels)
    getattr(model, compute)(*arguments, verbose=0, callbacks=[Heartbeat()])
    assert list(tmp_path.iterdir()) == []  # nobody watches
    with progress.heartbeat(tmp_path / "beat"):
        getattr(model, compute)(*arguments, verbose=0, callbacks=[Heartbeat()])
    assert (tmp_path / "beat").exists()


def test_signs_are_seldom(tmp_path, monkeypatch):
    """A file in a network folder costs more than a batch."""
    monkeypatch.setattr(progress, "BEAT_SECONDS", 1000)
    monkeypatch.setattr(progress, "_beaten", -float("inf"))
    with progress.heartbeat(tmp_path / "beat"):
        progress.beat()
        (tmp_path / "beat").unlink()
        progress.beat()
    assert list(tmp_path.iterdir()) == []
