"""The real command, twice, at once, killed, and with a damaged store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kapp import models
from kapp.runs import Run
from tests.callbacks.test_exact_resume import metrics, weights

# `distill`, in a process in which no teacher can be loaded.
WITHOUT_A_TEACHER = """
import sys
from kapp import cli
from kapp.models import saved
from kapp.recipes import distill

def nobody(path):
    raise AssertionError(f"{path} was loaded")

cli.start_keras()
saved.load = nobody
cli.run(distill.Config, distill.main, sys.argv[1:])
"""
ONE, OTHER = "8c-mp-d0.3-16fc-d0.4-3fc", "16fc-3fc"  # dropout draws random numbers


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_npz) -> Path:
    """A folder with a teacher and two data folders, where both students were trained at once, and the first
    one again, killed and resumed."""
    folder = tmp_path_factory.mktemp("stored")
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
    words = f"--teacher teacher.keras --no-baseline --student {student} --epochs 12 --batch-size 20 --shift 2"
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
    (store,) = (place / "together" / "answers").iterdir()
    assert {path.name for path in store.iterdir()} == {"answers.npy", "store.json"}
    for name in ("one", "other"):
        assert Run(place / name).result["teaching"] == "stored"
        assert len(Run(place / name).epochs()) == 12


def test_a_killed_run_goes_on_exactly_and_the_next_student_needs_no_teacher(place, tiny_npz):
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
    assert metrics(resumed_run) == metrics(whole)
    assert weights(resumed_run) == weights(whole)

    alone = start(place, tiny_npz, OTHER, "killed", "alone", program=("-c", WITHOUT_A_TEACHER))
    _, errors = alone.communicate(timeout=300)
    assert alone.returncode == 0, errors
    assert metrics(Run(place / "alone")) == metrics(Run(place / "other"))
    assert weights(Run(place / "alone")) == weights(Run(place / "other"))


def test_a_damaged_store_is_named(place, tiny_npz):
    (file,) = (place / "together" / "answers").glob("*/answers.npy")
    os.truncate(file, 1000)
    process = start(place, tiny_npz, OTHER, "together", "damaged")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    relative = file.relative_to(place)
    assert last.startswith(f"kapp: the teachers' answers in {relative} are damaged")
    assert "Delete that file" in last


def test_too_many_answers_are_asked_live_and_a_line_says_so(place, tiny_npz):
    (place / "small").mkdir()
    program = "import sys; from kapp import cli; cli.start_keras(); from kapp.training import answers; "
    program += "answers.LARGEST = 100; from kapp.recipes import distill; "
    program += "cli.run(distill.Config, distill.main, sys.argv[1:])"
    process = start(place, tiny_npz, OTHER, "small", "small-run", program=("-c", program))
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "of answers are too many to store: asking live" in out
    assert Run(place / "small-run").result["teaching"] == "live"
    assert not (place / "small" / "answers").exists()
    stored = [row["loss"] for row in Run(place / "other").epochs()]
    live = [row["loss"] for row in Run(place / "small-run").epochs()]
    assert stored[:4] == pytest.approx(live[:4], rel=2e-3)  # before roundings, which differ, have grown
    assert stored == pytest.approx(live, rel=2e-2)
