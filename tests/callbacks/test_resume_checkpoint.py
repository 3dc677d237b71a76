"""A run that is killed between two epochs ends with the bits of one that isn't."""

import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from kapp import data
from kapp.callbacks import ResumeCheckpoint, Throughput
from kapp.data import Augmentation
from kapp.errors import KappError
from kapp.fileio import atomic_file
from kapp.run_folder import Run
from kapp.training import Learner, loop, optimizers
from tests.helpers import untimed_metrics, weight_bytes
from tests.training.helpers import equal_arrays, hparams, new_run, small_network, state_of


def command(npz, out, *more) -> list[str]:
    network = "8c-mp-d0.3-16fc-d0.4-3fc"  # dropout draws random numbers, and Adam keeps its moments
    flags = f"-m kapp.recipes.train --model {network} --epochs 30 --batch-size 20 --schedule cosine"
    return [sys.executable, *flags.split(), "--dataset", f"npz:{npz}", "--out", str(out), *more]


def kill_after_checkpoint(arguments: list[str], checkpoint) -> None:
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_run_resumes_exactly(tiny_npz, tmp_path):
    subprocess.run(command(tiny_npz, tmp_path / "whole"), check=True, capture_output=True)
    killed = tmp_path / "killed"
    kill_after_checkpoint(command(tiny_npz, killed), killed / "checkpoints" / "latest.npz")
    assert not Run(killed).is_finished, "it ended before it could be killed"
    assert 1 <= len(Run(killed).metrics_rows()) < 30

    subprocess.run(command(tiny_npz, killed), check=True, capture_output=True)
    subprocess.run(command(tiny_npz, tmp_path / "other", "--seed", "1"), check=True, capture_output=True)
    whole, resumed, other = (Run(tmp_path / name) for name in ("whole", "killed", "other"))
    assert untimed_metrics(resumed) == untimed_metrics(whole)
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert untimed_metrics(other) != untimed_metrics(whole)  # the comparison can fail
    assert resumed.result.test_loss == whole.result.test_loss
    assert list((killed / "checkpoints").iterdir()) == []


def new_learner(dataset) -> Learner:
    learner = Learner(small_network(), dataset, Augmentation(1))
    learner.compile("adam")
    return learner


def train(run: Run, dataset, stop_epoch: int | None = None) -> list[np.ndarray]:
    """Train four epochs, or up to `stop_epoch`, or resume; returns the network's weights."""
    learner = new_learner(dataset)
    loop.fit(learner, dataset, run, hparams(epochs=4), seed=0, stop_epoch=stop_epoch)
    return learner.network.get_weights()


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "momentum": 0.85, "nesterov": True, "bias_scaler": 8.0, "schedule": "linear"},
        {"optimizer": "muon"},
        {"optimizer": "lion"},
    ],
    ids=lambda settings: settings["optimizer"],
)
def test_averaged_weights_and_every_optimizer_resume_exactly(dataset, tmp_path, settings):
    """The file has the averaged weights; the training continues from the others."""
    how = hparams(epochs=3, learning_rate=0.01, ema=0.9, label_smoothing=0.1, **settings)

    def train(run: Run, stop_epoch: int | None = None) -> Learner:
        learner = Learner(small_network(), dataset, Augmentation(1, flip_order="alternating"))
        learner.compile(optimizers.build(how, 8), ema=how.ema, label_smoothing=how.label_smoothing)
        loop.fit(learner, dataset, run, how, seed=0, stop_epoch=stop_epoch, keep_last=True)
        return learner

    whole, stopped = new_run(tmp_path / "whole"), new_run(tmp_path / "stopped")
    expected = train(whole)
    train(stopped, stop_epoch=2)
    resumed = train(stopped)
    assert equal_arrays(resumed.network.get_weights(), expected.network.get_weights())
    assert equal_arrays(resumed.averaged.get_weights(), expected.averaged.get_weights())
    assert untimed_metrics(stopped) == untimed_metrics(whole)
    assert weight_bytes(stopped) == weight_bytes(whole)
    saved = keras.models.load_model(stopped.model_file)
    assert equal_arrays(saved.get_weights(), expected.averaged.get_weights())
    assert not equal_arrays(saved.get_weights(), expected.network.get_weights())
    assert all(layer.trainable for layer in saved.layers)


@pytest.fixture(scope="module")
def stopped(dataset, tmp_path_factory) -> Run:
    """A training that stopped after three epochs of four."""
    run = new_run(tmp_path_factory.mktemp("stopped") / "run")
    train(run, dataset, stop_epoch=3)
    return run


@pytest.fixture
def run(stopped, tmp_path) -> Run:
    """A copy of `stopped`, to be damaged."""
    return Run(shutil.copytree(stopped.folder, tmp_path / "run"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 150] ^= 1  # in the first array
    path.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("epoch,loss\n1,nonsense"),
    "removed": lambda path: path.unlink(),
}


def restored(run: Run, dataset) -> tuple[int, list[np.ndarray]]:
    """The epochs and the variables that a resumed training starts from."""
    learner = new_learner(dataset)
    return ResumeCheckpoint(run, Throughput(20), 1).restore(learner), state_of(learner.network)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_replaces_a_damaged_one(damage, run, dataset, capsys):
    latest, previous = run.checkpoint_files
    expected = run.read_checkpoint(previous)
    assert [len(run.read_checkpoint(path).metrics) for path in (latest, previous)] == [3, 2]
    DAMAGES[damage](latest)
    epochs, variables = restored(run, dataset)
    assert epochs == 2
    assert equal_arrays(variables, [expected.variables[f"network{i}"] for i in range(len(variables))])
    printed = capsys.readouterr().out
    assert (f"{latest} is damaged" in printed) == (damage != "removed")
    assert ("). Resuming after epoch 2, from previous.npz.\n" in printed) == (damage != "removed")
    assert "--overwrite" not in printed


def test_damaged_checkpoints_are_named_and_nothing_is_written(run, dataset):
    for path in run.checkpoint_files:
        flip(path)
    before = {path: path.read_bytes() for path in run.folder.rglob("*.*") if path.is_file()}
    with pytest.raises(KappError, match="latest.npz is damaged .*--overwrite"):
        restored(run, dataset)
    assert {path: path.read_bytes() for path in run.folder.rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize("damage", ["best", "cut", "empty", "text", "removed"])
def test_a_changed_metrics_file_is_restored(damage, run, dataset, capsys):
    """ "best": another epoch seems to be the best so far."""
    rows = run.metrics_rows()
    if damage == "best":
        run.write_metrics([{**rows[0], "val_accuracy": 1.0}, *rows[1:]])
    else:
        DAMAGES[damage](run.metrics_file)
    assert restored(run, dataset)[0] == 3
    assert "metrics.csv differs from the checkpoint: its rows are restored" in capsys.readouterr().out
    assert run.metrics_rows() == rows


def test_a_folder_in_place_of_the_metrics_is_an_error(run, dataset):
    run.metrics_file.unlink()
    run.metrics_file.mkdir()
    with pytest.raises(KappError, match="cannot write .*metrics.csv"):
        restored(run, dataset)


def test_what_was_damaged_changes_no_result(run, dataset, tmp_path):
    """Not the weights, not the metrics, and not the network that is kept."""
    whole = new_run(tmp_path / "whole")
    weights = train(whole, dataset)
    flip(run.checkpoint_files[0])
    run.previous_model_file.unlink(missing_ok=True)
    run.previous_model_file.write_bytes(b"damaged")
    rows = run.metrics_rows()
    run.write_metrics([{**rows[0], "val_accuracy": 1.0}, *rows[1:]])
    assert equal_arrays(train(run, dataset), weights)
    assert untimed_metrics(run) == untimed_metrics(whole)
    assert weight_bytes(run) == weight_bytes(whole)
    assert [len(run.read_checkpoint(path).metrics) for path in run.checkpoint_files] == [4, 3]


def test_a_network_that_no_checkpoint_records_is_replaced_by_the_one_before(run, dataset):
    """The kill came between model.keras and its checkpoint. Where training isn't exact, such as on a GPU, no
    later epoch may be as good."""
    recorded = run.model_file.read_bytes()
    run.keep_model()
    with atomic_file(run.model_file) as partial:
        small_network(seed=1).save(partial)
    assert restored(run, dataset)[0] == 3
    assert run.model_file.read_bytes() == recorded
    run.check_model()


def test_an_exchanged_network_is_never_scored(run):
    """model.keras of another run has the same layers, and is a valid file."""
    network = small_network(seed=1)
    network.save(run.model_file)
    with pytest.raises(KappError, match=r"model\.keras is damaged .*latest\.npz"):
        loop.load_best(network, run)


def test_a_diverging_run_stops_and_keeps_its_files(tiny_npz, tmp_path):
    diverging = command(tiny_npz, tmp_path / "run", "--optimizer", "sgd", "--learning-rate", "1e30")
    done = subprocess.run(diverging, capture_output=True, text=True)
    assert done.returncode == 1
    assert "kapp: training diverged: the loss is" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Run(tmp_path / "run").is_finished
