"""A run that is killed between two epochs ends with the bits of one that isn't."""

import signal
import subprocess
import sys
import time

from kapp.run_folder import Run
from tests.helpers import untimed_metrics, weight_bytes


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


def test_a_damaged_checkpoint_is_named(tiny_npz, tmp_path):
    once = command(tiny_npz, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "latest.npz"
    kill_after_checkpoint(once, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    again = subprocess.run(once, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.strip().splitlines()[-1].startswith(f"kapp: {checkpoint} is damaged")
    assert "--overwrite" in again.stderr


def test_a_diverging_run_stops_and_keeps_its_files(tiny_npz, tmp_path):
    diverging = command(tiny_npz, tmp_path / "run", "--optimizer", "sgd", "--learning-rate", "1e30")
    done = subprocess.run(diverging, capture_output=True, text=True)
    assert done.returncode == 1
    assert "kapp: training diverged: the loss is" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Run(tmp_path / "run").is_finished
