"""One batch shared among devices, and among processes, trains as on one device. Only JAX can do it, so these
commands run on JAX, whatever the backend of this process."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from kapp.errors import ConfigError
from kapp.recipes import distill, train, transfer
from kapp.recipes.settings import ComputeOptions
from kapp.run_folder import Run
from tests.helpers import accept_interrupts

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="JAX isn't installed")
NETWORK = "6c-mp-d0.3-8fc-3fc"  # with batch normalization, whose mean is over the whole batch, and dropout


def command(npz, out, *more: object) -> list[str]:
    flags = f"-m kapp.recipes.train --model {NETWORK} --epochs 3 --batch-size 20 --optimizer sgd"
    return [sys.executable, *flags.split(), "--dataset", f"npz:{npz}", "--out", str(out), *map(str, more)]


def start(arguments: list[str], devices: int = 1, folder=None) -> subprocess.Popen:
    forced = {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, **forced}
    return subprocess.Popen(arguments, env=environment, cwd=folder, preexec_fn=accept_interrupts, **pipes)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def several_processes(process_id: int, port: int) -> tuple:
    meeting = ("--devices", "all", "--coordinator", f"127.0.0.1:{port}")
    return (*meeting, "--process-id", process_id, "--num-processes", 2)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def metrics(run: Run) -> np.ndarray:
    with open(run.metrics_file) as file:
        rows = list(csv.DictReader(file))
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return np.array([[float(row[name]) for name in names] for row in rows])


def weights(run: Run) -> list[np.ndarray]:
    return keras.models.load_model(run.model_file, compile=False).get_weights()


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_npz) -> Run:
    folder = tmp_path_factory.mktemp("alone") / "run"
    finish(start(command(tiny_npz, folder)))
    return Run(folder)


def assert_the_same(run: Run, alone: Run) -> None:
    np.testing.assert_allclose(metrics(run), metrics(alone), rtol=1e-4)
    for one, other in zip(weights(run), weights(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert run.result.test_accuracy == alone.result.test_accuracy


@pytest.mark.slow
@needs_jax
def test_two_devices_have_the_views_of_one(tiny_npz, tmp_path):
    """Mixed images, too: a partner may be in the batch of the other device."""
    views = "--epochs 1 --mixup 0.5 --cutmix 1 --crop-scale 0.5 --hue 0.1 --random-erasing 0.5".split()
    runs = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        finish(start(command(tiny_npz, folder, "--devices", "all", *views), devices))
        runs.append(Run(folder))
    assert_the_same(*runs)


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("image_storage", ["device", "disk"])
def test_two_devices_train_as_one(alone, tiny_npz, tmp_path, image_storage):
    more = ("--devices", "all", "--image-storage", image_storage)
    out = finish(start(command(tiny_npz, tmp_path / "run", *more), devices=2))
    run = Run(tmp_path / "run")
    assert_the_same(run, alone)
    assert run.environment.devices == 2
    assert "report.md" in out


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "distill --student 8fc-3fc --epochs 2 --no-baseline --teacher",  # cached logits
        "transfer --probe-epochs 2 --epochs 2 --no-scratch-baseline --source",  # cached features
    ],
)
def test_two_devices_train_from_a_network_as_one(alone, tiny_npz, tmp_path, flags):
    """With a data folder of its own each, so that both compute what they cache."""
    recipe, *flags = flags.split()
    data = {"distill": "--dataset", "transfer": "--target"}[recipe]
    runs = []
    for devices in (1, 2):
        folder, out = tmp_path / f"data-{devices}", tmp_path / f"run-{devices}"
        folder.mkdir()
        more = [alone.folder, data, f"npz:{tiny_npz}", "--batch-size", 20, "--out", out, "--data-dir", folder]
        more += ["--devices", "all"] if devices > 1 else []
        finish(start([sys.executable, "-m", f"kapp.recipes.{recipe}", *flags, *map(str, more)], devices))
        runs += [Run(out)]
    assert runs[1].environment.devices == 2
    assert_the_same(runs[1], runs[0])


@pytest.mark.slow
@needs_jax
def test_two_processes_train_as_one_and_the_first_prints(alone, tiny_npz, tmp_path):
    port = free_port()
    both = [start(command(tiny_npz, tmp_path / "run", *several_processes(k, port))) for k in range(2)]
    first, second = map(finish, both)
    run = Run(tmp_path / "run")
    assert_the_same(run, alone)
    assert run.environment.devices == 2
    assert "report.md" in first
    assert "run" not in second  # but for lines of the library that connects them


@needs_jax
@pytest.mark.parametrize(
    ("of_first", "of_second", "failing", "message"),
    [
        ((), ("--momentum", 0.5), 1, "contains another run (momentum: 0.9 -> 0.5)"),
        (("--out", "notes"), ("--out", "notes"), 0, "notes contains files but no run"),
    ],
)
def test_if_one_process_fails_both_end(tiny_npz, tmp_path, of_first, of_second, failing, message):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    port = free_port()
    both = [
        start(command(tiny_npz, tmp_path / "run", *several_processes(k, port), *more), folder=tmp_path)
        for k, more in enumerate((of_first, of_second))
    ]
    errors = [process.communicate(timeout=100)[1] for process in both]
    assert message in errors[failing]
    assert f"process {failing} of this training failed" in errors[1 - failing]
    assert (both[failing].returncode, both[1 - failing].returncode) == (2, 1)


@pytest.mark.slow
@needs_jax
def test_ctrl_c_ends_one_of_two_processes_that_train_without_waiting_for_the_other(tiny_npz, tmp_path):
    port = free_port()
    both = [
        start(command(tiny_npz, tmp_path / "run", *several_processes(k, port), "--epochs", 100_000))
        for k in range(2)
    ]
    try:
        end = time.monotonic() + 200
        while not (tmp_path / "run" / "checkpoints" / "previous.npz").is_file():
            assert time.monotonic() < end
            time.sleep(0.05)
        both[0].send_signal(signal.SIGINT)
        _, err = both[0].communicate(timeout=60)  # it would wait for 300 s
        assert both[0].returncode == 130
        assert "kapp: interrupted. The same command resumes from the last checkpoint.\n" in err
    finally:
        for process in both:
            process.kill()
            process.communicate()


@needs_jax
def test_a_batch_that_the_devices_cannot_share_is_refused(tiny_npz, tmp_path):
    process = start(command(tiny_npz, tmp_path / "run", "--devices", "all"), devices=3)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "--batch-size is 20: it must be a multiple of the 3 devices" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coordinator": "127.0.0.1:1234"}, "--coordinator HOST:PORT, --process-id and --num-processes go"),
        ({"coordinator": "here", "process_id": 0, "num_processes": 2}, "here: it must be HOST:PORT"),
        ({"coordinator": "a:99999", "process_id": 0, "num_processes": 2}, "a:99999: it must be HOST:PORT"),
        (
            {"coordinator": "a:1", "process_id": 2, "num_processes": 2},
            "--process-id is 2: it must be from 0 to 1",
        ),
        ({"coordinator": "a:1", "process_id": 0, "num_processes": 2}, "--process-id goes with --devices all"),
        ({"devices": "all"}, "Keras on tensorflow can't divide a batch among devices"),
    ],
)
def test_options_that_do_not_go_together_are_refused(settings, message, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ConfigError, match=message):
        train.Config(compute=ComputeOptions(**settings)).check()


@pytest.mark.parametrize(("recipe", "first"), [(distill, "teacher"), (transfer, "source")])
def test_several_processes_train_one_network_only(recipe, first):
    compute = ComputeOptions(coordinator="a:1", process_id=0, num_processes=2)
    with pytest.raises(ConfigError, match=f"--process-id is for kapp train.*Train the {first} with it first"):
        recipe.Config(compute=compute).check()
