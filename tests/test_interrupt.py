"""Ctrl-C is recorded in a training, raised at the end of a batch, and never lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from kapp import interrupt
from kapp.fileio import folder_lock
from tests.helpers import accept_interrupts


@pytest.fixture(autouse=True)
def python_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def press_where_it_is_swallowed() -> None:
    """As in a callback of a library that catches everything."""
    with suppress(BaseException):
        press()
        time.sleep(0.01)


def test_it_is_raised_by_the_next_check(capfd):
    with interrupt.deferred():
        interrupt.check()
        press_where_it_is_swallowed()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        interrupt.check()  # once only
    assert "stops after this batch; Ctrl-C again stops at once" in capfd.readouterr().err


def test_it_is_raised_at_the_latest_at_the_end_of_the_block(capfd):
    with pytest.raises(KeyboardInterrupt), interrupt.deferred():
        press_where_it_is_swallowed()
    with pytest.raises(KeyboardInterrupt):  # Python's own handler is back
        press()


def test_it_ends_the_wait_for_a_folder(tmp_path, capfd):
    is_locked, ended = threading.Event(), threading.Event()

    def lock():
        with folder_lock(tmp_path, ""):
            is_locked.set()
            ended.wait(10)
        ended.set()

    other = threading.Thread(target=lock)
    other.start()
    is_locked.wait()
    threading.Timer(0.2, press).start()
    with pytest.raises(KeyboardInterrupt), interrupt.deferred(), folder_lock(tmp_path, "waiting"):
        pass
    assert not ended.is_set()  # the other one still has the lock
    ended.set()
    other.join()


@pytest.mark.parametrize("presses", [1, 2])
def test_the_second_one_ends_the_process_at_once(presses):
    program = (
        "import time; from kapp import interrupt\n"
        "with interrupt.deferred():\n"
        "    print('in', flush=True)\n"
        "    for _ in range(400):\n"
        "        try: time.sleep(0.01)\n"
        "        except BaseException: pass\n"
        "    print('block ended', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_interrupts,
    )
    assert process.stdout.readline() == "in\n"
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    out, err = process.communicate(timeout=60)
    assert out == ("block ended\n" if presses == 1 else "")
    assert (process.returncode == 130) == (presses == 2)
    assert ("Traceback" in err) == (presses == 1)  # there is no `cli.run` here


def test_a_training_stops_with_its_checkpoint(tiny_npz, tmp_path):
    words = "-m kapp.recipes.train --model 8fc-3fc --epochs 100000 --batch-size 20 --out run"
    process = subprocess.Popen(
        [sys.executable, *words.split(), "--dataset", f"npz:{tiny_npz}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_interrupts,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/checkpoints/previous.npz").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith("kapp: interrupted. The same command resumes from the last checkpoint.\n")
    assert "Traceback" not in err
    assert not list((tmp_path / "run").rglob(".*-*"))
