"""The real command, twice, at once, killed, and with a damaged store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kapp import models
from kapp.run_folder import Run
from tests.helpers import untimed_metrics, weight_bytes

# `distill`, in a process in which no teacher can be loaded.
WITHOUT_A_TEACHER = """
import sys
from kapp import cli
from kapp.models import keras_file
from kapp.recipes import distill

def nobody(path, *fitting):
    raise AssertionError(f"{path} was loaded")

cli.start_keras()
keras_file.load = nobody
cli.run(distill.Config, distill.main, sys.argv[1:])
"""
ONE, OTHER = "8c-mp-d0.3-16fc-d0.4-3fc", "16fc-3fc"  # dropout draws random numbers


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_npz) -> Path:
    """A folder with a teacher and two data folders, where both students were trained at once, and the first
    one again, killed and resumed."""
    folder = tmp_path_factory.mktemp("cached")
    models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3), seed=1).save(folder / "teacher.keras")
    for name in ("together", "killed"):
        (folder / name).mkdir()
    at_once = [
        start(folder, tiny_npz, ONE, "together", "one"),
        start(folder, tiny_npz, OTHER, "together", "other"),
    ]
    for process in at_once:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return folder


def start(
    folder, npz, student, store, out, *more, program=("-m", "kapp.recipes.distill")
) -> subprocess.Popen:
    words = f"--teacher teacher.keras --no-baseline --student {student} --epochs 12 "
    words += "--batch-size 20 --crop-padding 2"
    places = ["--dataset", f"npz:{npz}", "--data-dir", store, "--out", out]
    return subprocess.Popen(
        [sys.executable, *program, *words.split(), *places],
        cwd=folder,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_commands_share_one_store(place):
    (store,) = (place / "together" / "teacher_logits").iterdir()
    assert {path.name for path in store.iterdir()} == {".lock", "logits.npy", "store.json"}
    for name in ("one", "other"):
        assert Run(place / name).result.teacher_logits == "cached"
        assert len(Run(place / name).metrics_rows()) == 12


@pytest.mark.slow
def test_a_killed_run_resumes_exactly_and_the_next_student_needs_no_teacher(place, tiny_npz):
    killed = start(place, tiny_npz, ONE, "killed", "killed-one")
    deadline = time.monotonic() + 120
    while not (place / "killed-one" / "checkpoints" / "latest.npz").is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (place / "killed-one" / "result.json").exists(), "it ended before it could be killed"

    _, errors = (resumed := start(place, tiny_npz, ONE, "killed", "killed-one")).communicate(timeout=300)
    assert resumed.returncode == 0, errors
    whole, resumed_run = Run(place / "one"), Run(place / "killed-one")
    assert untimed_metrics(resumed_run) == untimed_metrics(whole)
    assert weight_bytes(resumed_run) == weight_bytes(whole)

    alone = start(place, tiny_npz, OTHER, "killed", "alone", program=("-c", WITHOUT_A_TEACHER))
    _, errors = alone.communicate(timeout=300)
    assert alone.returncode == 0, errors
    assert untimed_metrics(Run(place / "alone")) == untimed_metrics(Run(place / "other"))
    assert weight_bytes(Run(place / "alone")) == weight_bytes(Run(place / "other"))


def test_a_damaged_store_is_named(place, tiny_npz):
    (file,) = (place / "together" / "teacher_logits").glob("*/logits.npy")
    os.truncate(file, 1000)
    process = start(place, tiny_npz, OTHER, "together", "damaged")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    relative = file.relative_to(place)
    assert last.startswith(f"kapp: the teacher logits in {relative} are damaged")
    assert "Delete that file" in last


@pytest.mark.slow
def test_logits_that_are_too_large_are_computed_live(place, tiny_npz):
    (place / "small").mkdir()
    program = "import sys; from kapp import cli; cli.start_keras(); from kapp.training import teacher_cache; "
    program += "teacher_cache.MAX_BYTES = 100; from kapp.recipes import distill; "
    program += "cli.run(distill.Config, distill.main, sys.argv[1:])"
    process = start(place, tiny_npz, OTHER, "small", "small-run", program=("-c", program))
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "too large to cache, running live" in out
    assert Run(place / "small-run").result.teacher_logits == "live"
    assert not (place / "small" / "teacher_logits").exists()
    stored = [row["loss"] for row in Run(place / "other").metrics_rows()]
    live = [row["loss"] for row in Run(place / "small-run").metrics_rows()]
    assert stored[:4] == pytest.approx(live[:4], rel=2e-3)  # before roundings, which differ, have grown
    assert stored == pytest.approx(live, rel=2e-2)
