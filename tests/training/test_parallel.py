"""One batch shared among devices, and among processes: the same training as on one device. JAX alone can, so
that these commands run on it whatever the backend of this process."""

import csv
import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from kapp.errors import WrongValue
from kapp.recipes import distill, train, transfer
from kapp.runs import Run

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="JAX isn't installed")
NETWORK = "6c-mp-d0.3-8fc-3fc"  # batch normalisation, whose mean is over the whole batch, and dropout


def command(npz, out, *more: object) -> list[str]:
    words = f"-m kapp.recipes.train --model {NETWORK} --epochs 3 --batch-size 20 --optimizer sgd"
    return [sys.executable, *words.split(), "--dataset", f"npz:{npz}", "--out", str(out), *map(str, more)]


def started(words: list[str], devices: int = 1, folder=None) -> subprocess.Popen:
    forced = {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env={**os.environ, **forced}, cwd=folder, **pipes)


def ended(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def trajectory(run: Run) -> np.ndarray:
    with open(run.metrics_file) as file:
        rows = list(csv.DictReader(file))
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return np.array([[float(row[name]) for name in names] for row in rows])


def weights(run: Run) -> list[np.ndarray]:
    return keras.models.load_model(run.model_file, compile=False).get_weights()


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_npz) -> Run:
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended(started(command(tiny_npz, folder)))
    return Run(folder)


def assert_the_same(run: Run, alone: Run) -> None:
    np.testing.assert_allclose(trajectory(run), trajectory(alone), rtol=1e-4)
    for one, other in zip(weights(run), weights(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert run.result["test_accuracy"] == alone.result["test_accuracy"]


@needs_jax
@pytest.mark.parametrize("images_on", ["device", "disk"])
def test_two_devices_train_as_one_does(alone, tiny_npz, tmp_path, images_on):
    more = ("--devices", "all", "--images-on", images_on)
    out = ended(started(command(tiny_npz, tmp_path / "run", *more), devices=2))
    run = Run(tmp_path / "run")
    assert_the_same(run, alone)
    assert run.environment["devices"] == 2
    assert "report.md" in out


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "distill --student 8fc-3fc --epochs 2 --no-baseline --teacher",  # stored answers
        "transfer --head-epochs 2 --epochs 2 --no-scratch --source",  # stored features, in its first phase
    ],
)
def test_two_devices_learn_from_a_trained_network_as_one_does(alone, tiny_npz, tmp_path, words):
    """Each asks it for itself: neither finds what the other stored."""
    data = {"distill": "--dataset", "transfer": "--target"}[words.split()[0]]
    runs = []
    for devices in (1, 2):
        (tmp_path / f"data-{devices}").mkdir()
        out = tmp_path / f"run-{devices}"
        more = [alone.folder, data, f"npz:{tiny_npz}", "--batch-size", 20, "--out", out]
        more += ["--data-dir", tmp_path / f"data-{devices}", *(["--devices", "all"] if devices > 1 else [])]
        name, *flags = words.split()
        ended(started([sys.executable, "-m", f"kapp.recipes.{name}", *flags, *map(str, more)], devices))
        runs += [Run(out)]
    assert runs[1].environment["devices"] == 2
    assert_the_same(runs[1], runs[0])


@needs_jax
def test_two_processes_train_as_one_does_and_the_first_speaks(alone, tiny_npz, tmp_path):
    meeting = ("--devices", "all", "--coordinator", f"127.0.0.1:{free_port()}")
    both = [
        started(command(tiny_npz, tmp_path / "run", *meeting, "--process", f"{k}/2"), devices=1)
        for k in range(2)
    ]
    first, second = map(ended, both)
    run = Run(tmp_path / "run")
    assert_the_same(run, alone)
    assert run.environment["devices"] == 2
    assert "report.md" in first
    assert "run" not in second  # but for what the library that connects them prints


@needs_jax
@pytest.mark.parametrize(
    ("only_first", "only_second", "says"),
    [
        ((), ("--momentum", 0.5), (1, "holds another run (momentum: 0.9 -> 0.5)")),
        (("--out", "notes"), ("--out", "notes"), (0, "notes holds files but no run")),
    ],
)
def test_when_one_process_cannot_go_on_both_end_at_once(tiny_npz, tmp_path, only_first, only_second, says):
    """Neither waits for the other, nor goes on with other settings."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    meeting = ("--devices", "all", "--coordinator", f"127.0.0.1:{free_port()}")
    both = [
        started(command(tiny_npz, tmp_path / "run", *meeting, "--process", f"{k}/2", *more), folder=tmp_path)
        for k, more in enumerate((only_first, only_second))
    ]
    errors = [process.communicate(timeout=100)[1] for process in both]
    who, message = says
    assert message in errors[who]
    assert f"process {who} of this training can't go on, and says why" in errors[1 - who]
    assert (both[who].returncode, both[1 - who].returncode) == (2, 1)


@needs_jax
def test_a_batch_that_cannot_be_divided_is_refused(tiny_npz, tmp_path):
    process = started(command(tiny_npz, tmp_path / "run", "--devices", "all"), devices=3)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "--batch-size is 20: it must be a multiple of the 3 devices" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coordinator": "127.0.0.1:1234"}, "--coordinator HOST:PORT and --process K/N go together"),
        ({"coordinator": "here", "process": "0/2"}, "--coordinator is here: it must be HOST:PORT"),
        ({"coordinator": "a:99999", "process": "0/2"}, "--coordinator is a:99999: it must be HOST:PORT"),
        ({"coordinator": "a:1", "process": "2/2"}, "--process is 2/2: it must be K/N with K from 0 to N - 1"),
        ({"coordinator": "a:1", "process": "0/2"}, "--process goes with --devices all"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(WrongValue, match=message):
        train.Config(**settings).check()


@pytest.mark.parametrize(("recipe", "first"), [(distill, "teacher"), (transfer, "source")])
def test_several_processes_are_refused_where_more_than_one_network_is_trained(recipe, first):
    """At once, and not after what --process needs where it is possible."""
    with pytest.raises(WrongValue, match=f"--process is for kapp train.*Train the {first} with it first"):
        recipe.Config(coordinator="a:1", process="0/2").check()


def test_a_backend_that_cannot_share_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(WrongValue, match="on tensorflow, Keras can't share a batch among devices"):
        train.Config(devices="all").check()
