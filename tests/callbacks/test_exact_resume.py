"""A run killed between two epochs ends as if it hadn't been, bit for bit."""

import csv
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from kapp.runs import Run


def command(npz, out, *more) -> list[str]:
    network = "8c-mp-d0.3-16fc-d0.4-3fc"  # dropout draws random numbers, and Adam keeps moments
    words = f"-m kapp.recipes.train --model {network} --epochs 30 --batch-size 20 --schedule cosine"
    return [sys.executable, *words.split(), "--dataset", f"npz:{npz}", "--out", str(out), *more]


def weights(run: Run) -> dict[str, bytes]:
    with zipfile.ZipFile(run.model_file) as file:
        return {name: file.read(name) for name in file.namelist() if name.endswith(".h5")}


def metrics(run: Run) -> list[list[str]]:
    with open(run.metrics_file) as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "images_per_second")
    return [[value for name, value in row.items() if name not in timed] for row in rows]


def test_a_killed_run_goes_on_exactly(tiny_npz, tmp_path):
    subprocess.run(command(tiny_npz, tmp_path / "whole"), check=True, capture_output=True)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(tiny_npz, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "latest.npz").is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "result.json").exists(), "it ended before it could be killed"
    before = len(Run(killed).epochs())
    assert 1 <= before < 30

    subprocess.run(command(tiny_npz, killed), check=True, capture_output=True)
    subprocess.run(command(tiny_npz, tmp_path / "other", "--seed", "1"), check=True, capture_output=True)
    whole, resumed, other = (Run(tmp_path / name) for name in ("whole", "killed", "other"))
    assert metrics(resumed) == metrics(whole)
    assert weights(resumed) == weights(whole)
    assert metrics(other) != metrics(whole)  # the comparison can fail
    assert resumed.result["test_loss"] == whole.result["test_loss"]
    assert list((killed / "checkpoints").iterdir()) == []


def test_a_damaged_checkpoint_is_named(tiny_npz, tmp_path):
    run = tmp_path / "run"
    once = command(tiny_npz, run)
    process = subprocess.Popen(once, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = run / "checkpoints" / "latest.npz"
    while not checkpoint.is_file() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    again = subprocess.run(once, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.strip().splitlines()[-1].startswith(f"kapp: {checkpoint} is damaged")
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize("rate", ["1e30"])
def test_a_diverging_run_says_so_and_keeps_what_it_has(tiny_npz, tmp_path, rate):
    diverging = command(tiny_npz, tmp_path / "run", "--optimizer", "sgd", "--learning-rate", rate)
    done = subprocess.run(diverging, capture_output=True, text=True)
    assert done.returncode == 1
    assert "kapp: training diverged: the loss is" in done.stderr
    assert "Traceback" not in done.stderr
    assert np.all([file.name != "result.json" for file in (tmp_path / "run").iterdir()])
