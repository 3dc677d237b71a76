import subprocess
import sys

import keras
import numpy as np
import pytest

from kapp import models
from kapp.callbacks import StopOnConstantOutput
from kapp.errors import TrainingFailed
from kapp.run_folder import Run
from kapp.training import Learner
from tests.training.helpers import new_run, predict


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """200 images of 32x32 in ten classes that differ in brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % 10
    images = random.normal(20 + 22 * labels[:, None, None, None], 20, (200, 32, 32, 3))
    images = images.clip(0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("small") / "small.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    return path


@pytest.mark.slow
def test_a_training_with_dead_relus_stops_and_keeps_the_best_network(small, tmp_path):
    flags = "-m kapp.recipes.train --model base_c --width 0.05 --code-variants relu_logits --batch-size 20"
    flags += " --epochs 6 --rates 0.001 0.5 --milestones 2 --out run"
    command = [sys.executable, *flags.split(), "--dataset", f"npz:{small}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("kapp: training stopped in epoch ")
    assert "the model predicts the same output for every image (dead ReLUs)" in last
    assert "(guessing among 10 classes: 2.303); the best network so far is run/model.keras" in last
    assert "Traceback" not in done.stderr

    run = Run(tmp_path / "run")
    assert not run.is_finished
    assert 2 <= len(run.metrics_rows()) < 6  # without the epoch in which it stopped
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3))
    assert np.ptp(predict(keras.models.load_model(run.model_file), images), axis=0).max() > 0
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.stderr.strip().splitlines()[-1] == last


@pytest.mark.parametrize("name", ["all_cnn_c", "linear_3"])
def test_only_equal_outputs_stop_a_training(name, tmp_path):
    """An untrained network, and one with nearly equal outputs, continue."""
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype(np.uint8)
    network = models.build(name, width=0.05)
    kernel = network.get_layer("logits").kernel
    callback = StopOnConstantOutput(new_run(tmp_path / "run"), images)
    callback.set_model(Learner(network))
    kernel.assign(kernel * 1e-3)
    callback.on_epoch_end(0, {"loss": 2.3026})
    kernel.assign(kernel * 0)
    with pytest.raises(TrainingFailed, match="training stopped in epoch 1"):
        callback.on_epoch_end(0, {"loss": 2.3026})


def test_one_class_for_five_epochs_is_reported_once(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype(np.uint8)
    network = models.build("linear_3", width=0.05)
    callback = StopOnConstantOutput(new_run(tmp_path / "run"), images)
    callback.set_model(Learner(network))
    bias = network.get_layer("logits").bias

    def epochs(first, last, class_bias):
        bias.assign(class_bias * np.eye(10)[3])
        for epoch in range(first, last):
            callback.on_epoch_end(epoch, {"loss": 1.0})
        return capsys.readouterr().err

    assert epochs(0, 4, 100.0) == ""
    assert epochs(4, 5, 0.0) == ""  # several classes: counted from the beginning again
    assert epochs(5, 9, 100.0) == ""
    assert epochs(9, 30, 100.0).startswith(
        "epoch 10: for 5 epochs the model has predicted class 3 for all of 32 images"
    )
    assert capsys.readouterr().err == ""
