"""A network whose ReLUs have died is told, named, and what it was before is kept."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from kapp import models
from kapp.callbacks import DeadLoss
from kapp.errors import Failure
from kapp.runs import Run
from kapp.training import Learner


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """200 images of 32x32, in ten classes that differ in brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % 10
    images = random.normal(20 + 22 * labels[:, None, None, None], 20, (200, 32, 32, 3))
    images = images.clip(0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("small") / "small.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    return path


def test_a_rate_that_is_too_high_kills_and_the_last_good_network_is_kept(small, tmp_path):
    words = "-m kapp.recipes.train --model base_c --width 0.05 --departures relu_logits --batch-size 20"
    rates = "--epochs 6 --rates 0.001 0.5 --milestones 2 --out run".split()
    command = [sys.executable, *words.split(), *rates, "--dataset", f"npz:{small}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("kapp: the network died in epoch ")
    assert "it answers every image alike" in last
    assert "(guessing among 10 classes costs 2.303); the best network so far is run/model.keras" in last
    assert "Traceback" not in done.stderr

    run = Run(tmp_path / "run")
    assert not run.finished
    assert 2 <= len(run.epochs()) < 6  # and the epoch in which it died isn't among them
    kept = keras.models.load_model(run.model_file)
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3))
    assert np.ptp(keras.ops.convert_to_numpy(kept(images)), axis=0).max() > 0
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.stderr.strip().splitlines()[-1] == last


def test_the_living_are_left_alone(tmp_path):
    """Also a network that has learnt nothing yet, and one with nearly equal answers."""
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype(np.uint8)
    run = Run.start(tmp_path / "run", {"recipe": "train"})
    for name in ("all_cnn_c", "linear_3"):
        network = models.build(name, width=0.05)
        network.get_layer("logits").kernel.assign(network.get_layer("logits").kernel * 1e-3)
        callback = DeadLoss(run, images)
        callback.set_model(Learner(network))
        callback.on_epoch_end(0, {"loss": 2.3026})
        network.get_layer("logits").kernel.assign(network.get_layer("logits").kernel * 0)
        with pytest.raises(Failure, match="died in epoch 1"):
            callback.on_epoch_end(0, {"loss": 2.3026})
