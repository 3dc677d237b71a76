import os
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.results import Contender
from kapp.errors import KappError

ROOT = Path(__file__).parents[2]
WORKLOAD = """
import sys
from benchmarks.workloads import serve

name, log, failing = sys.argv[1:]
repetitions = []

def repeat():
    repetitions.append(name)
    if len(repetitions) == int(failing):
        print("printed by a framework")
        sys.exit("no memory left")
    with open(log, "a") as file:
        file.write(name)

serve(repeat, images=100)
"""


@pytest.fixture
def contender(tmp_path):
    """A contender that writes its name to a log, and fails in its repetition number `failing`."""
    path = tmp_path / "workload.py"
    path.write_text(WORKLOAD)

    def create(name, failing=0):
        command = f"PYTHONPATH={ROOT} python {path} {name} {tmp_path / 'log'} {failing}"
        return Contender(name, command)

    return create


def test_rows_of_a_command_are_timed_when_they_are_written(tmp_path):
    path = tmp_path / "metrics.csv"
    script = (
        "import sys, time; file = open(sys.argv[1], 'w'); file.write('epoch,val_accuracy\\n0,0.5\\n1,0.'); "
        "file.flush(); time.sleep(1); file.write('75\\n'); file.close(); sys.exit(int(sys.argv[2]))"
    )
    rows = list(compare.follow(f'python -c "{script}" {path} 0', path))
    assert [row for _, row in rows] == [
        {"epoch": "0", "val_accuracy": "0.5"},
        {"epoch": "1", "val_accuracy": "0.75"},
    ]
    assert rows[1][0] - rows[0][0] > 0.5  # it was complete after a second
    with pytest.raises(KappError, match="status 3"):
        list(compare.follow(f'python -c "{script}" {path} 3', path))


def test_contenders_repeat_in_turn(contender, tmp_path):
    lines, contenders = [], [contender("A"), contender("B"), contender("C")]
    costs = compare.compare(contenders, repetitions=4, report=lines.append)
    assert (tmp_path / "log").read_text() == "ABC" * 5  # with the warm-up
    assert list(costs) == contenders
    for warm_up, *repetitions in costs.values():
        assert len(repetitions) == 4
        assert warm_up.seconds > repetitions[0].seconds  # with the start of the process
        assert all(each.images == 100 and each.peak_bytes > 1e6 for each in repetitions)
    assert len(lines) == 3


def test_contenders_that_start_together_repeat_in_turn(contender, tmp_path):
    contenders = [contender("A"), contender("B")]
    costs = compare.compare(contenders, 3, report=lambda line: None, start_together=True)
    log = (tmp_path / "log").read_text()
    assert sorted(log[:2]) == ["A", "B"]
    assert log[2:] == "AB" * 3
    assert list(costs) == contenders


@pytest.mark.parametrize("failing", [1, 3])
def test_a_failed_contender_is_named_with_the_end_of_its_errors(contender, failing):
    with pytest.raises(KappError, match="no memory left") as caught:
        compare.compare([contender("A"), contender("B", failing)], 5, report=lambda line: None)
    assert "status 1" in str(caught.value)
    assert contender("B", failing).command in str(caught.value)
    assert "printed by a framework" in str(caught.value)


def test_an_interrupt_kills_the_processes(contender, monkeypatch):
    children = []

    class Recorded(compare.subprocess.Popen):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            children.append(self)

    def interrupt(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare.subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        compare.compare([contender("A")], 5, report=interrupt)
    assert len(children) == 1
    assert children[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(children[0].pid, 0)


def test_a_command_with_another_status_fails():
    with pytest.raises(KappError, match=r"status 3.*\n.*\nno memory"):
        compare.run("python -c 'import sys; print(\"no memory\", file=sys.stderr); sys.exit(3)'")


def test_a_command_returns_its_cost_and_its_output():
    cost, output = compare.run("python -c 'print(sum(range(3000000)))'")
    assert output == "4499998500000\n"
    assert cost.seconds > 0
    assert cost.cpu_seconds > 0


def test_variables_are_at_the_beginning_of_a_command():
    words, environment = compare.parse("KERAS_BACKEND=jax python -m x 'a b' c=d")
    assert words[1:] == ["-m", "x", "a b", "c=d"]
    assert environment["KERAS_BACKEND"] == "jax"
    assert environment["PATH"] == os.environ["PATH"]
    assert "c" not in environment
