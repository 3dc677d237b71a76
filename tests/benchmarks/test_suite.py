import csv
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.__main__ import main, measure
from benchmarks.compare import parse, run
from benchmarks.results import Contender
from benchmarks.suite import Commands, Memory
from kapp.errors import KappError

ROOT = Path(__file__).parents[2]
COMPARED = (*suite.COMPARISONS, *suite.SCALINGS, *suite.TIMES_TO_ACCURACY)
CONTENDERS = [each for benchmark in COMPARED for each in benchmark.contenders]


def test_names_are_unique():
    names = [benchmark.name for benchmark in suite.ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "command",
    sorted(
        {each.command.split(" -m ")[1].split(" --")[0] for each in CONTENDERS if "workloads" in each.command}
    ),
)
def test_every_contender_runs_a_function_of_a_workload_module(command):
    module, function, *_ = command.split()
    if module.endswith(".torch"):
        pytest.importorskip("torch")
    assert callable(getattr(import_module(module), function))


def test_commands_begin_with_a_known_backend():
    for contender in CONTENDERS:
        words, environment = parse(contender.command)
        assert words[:2] == [sys.executable, "-m"]
        assert ".torch" in words[2] or environment["KERAS_BACKEND"] in ("tensorflow", "jax", "torch")


def test_no_contender_is_twice_in_a_benchmark():
    for benchmark in COMPARED:
        assert len({each.command for each in benchmark.contenders}) == len(benchmark.contenders)


def test_every_peer_has_a_target():
    for comparison in suite.COMPARISONS:
        assert {each.group for each in comparison.contenders} == {"kapp", *comparison.targets}


def test_an_unknown_name_is_refused_with_the_nearest(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "linear_4"])
    assert main() == 2
    assert "linear_3" in capsys.readouterr().err


def test_a_failed_benchmark_is_reported_and_the_others_are_kept(tmp_path, capsys):
    class Failing:
        name = "failing"

        def measure(self, repetitions, report):
            raise KappError("a contender failed")

    quick = Commands("quick", "a quick one", [Contender("kapp", "python -c 'print(1)'")], 0.5)
    assert measure([Failing(), quick], repetitions=2, path=tmp_path / "rows.csv") == 1
    assert "failing failed: a contender failed" in capsys.readouterr().err
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = [(row["benchmark"], row["repetition"]) for row in csv.DictReader(file)]
    assert rows == [("quick", "0"), ("quick", "1"), ("quick", "2")]


def test_commands_of_a_repetition_share_a_new_cache():
    count = 'import os; d = os.environ["KAPP_DATA_DIR"]; open(d + "/x", "a").write("x"); '
    first, second = (
        Contender(name, f"python -c '{count}assert len(open(d + \"/x\").read()) == {size}'")
        for name, size in (("first", 1), ("second", 2))
    )
    (costs,) = Commands("twice", "two commands", [first, second], 1.0).measure(2, lambda line: None)
    assert [len(each) for each in costs.values()] == [3, 3]


def test_help_imports_neither_keras_nor_a_backend():
    words = [sys.executable, "-X", "importtime", "-m", "benchmarks", "--help"]
    process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0
    assert not any(f"| {name}\n" in process.stderr for name in ("keras", "tensorflow", "torch", "pandas"))


def test_times_to_accuracy_are_those_of_each_new_best(tmp_path):
    script = (
        "import os, sys, time; folder = sys.argv[2]; os.mkdir(folder); "
        "file = open(folder + '/metrics.csv', 'w', buffering=1); print('val_accuracy', file=file)\n"
        "for each in (0.25, 0.5, 0.375, 0.625): print(each, file=file); time.sleep(0.3)"
    )
    training, lines = (
        suite.TimeToAccuracy("fast", "net", [Contender("kapp", f'python -c "{script}"')], [0.5]),
        [],
    )
    costs = [each for found in training.measure(5, lines.append) for each in found.items()]
    assert [(each.group, each.x) for each, _ in costs] == [
        ("kapp", "0.2500"),
        ("kapp", "0.5000"),
        ("kapp", "0.6250"),
    ]
    first, second, last = (cost.seconds for _, (cost,) in costs)
    assert second - first > 0.15
    assert last - second > 0.3  # two epochs
    assert len(lines) == 4
    assert "37.5% after 0.0 minutes" in lines[2]


def test_the_epochs_of_a_training_are_kept_when_it_fails(tmp_path, capsys):
    script = (
        "import os, sys, time; folder = sys.argv[2]; os.mkdir(folder); "
        "file = open(folder + '/metrics.csv', 'w', buffering=1); print('val_accuracy', file=file); "
        "print(0.25, file=file); time.sleep(0.5); sys.exit('full disk')"
    )
    training = suite.TimeToAccuracy("short", "net", [Contender("kapp", f'python -c "{script}"')], [0.5])
    assert measure([training], repetitions=1, path=tmp_path / "rows.csv") == 1
    assert "full disk" in capsys.readouterr().err
    with open(tmp_path / "rows.csv", newline="") as file:
        assert [row["x"] for row in csv.DictReader(file)] == ["0.2500"]


@pytest.mark.slow  # two trainings
def test_the_recipe_and_plain_keras_write_the_rows_that_are_followed(tiny_npz):
    for words in (
        "benchmarks.workloads.keras train 8fc-10fc --epochs 2 --batch-size 20 --dataset",
        "kapp.recipes.train --model 8fc-10fc --epochs 2 --batch-size 20 --dataset",
    ):
        contender = Contender("kapp", f"python -m {words} npz:{tiny_npz}")
        lines = []
        assert list(suite.TimeToAccuracy("tiny", "net", [contender], [0.5]).measure(1, lines.append))
        assert len(lines) == 2


@pytest.mark.slow  # a training
def test_plain_keras_learns_what_it_validates(tmp_path):
    """The images were standardized twice: then the training improves, and the validation stays at chance."""
    out = tmp_path / "run"
    run(f"python -m benchmarks.workloads.keras train 64fc^2-10fc --dataset shapes --epochs 3 --out {out}")
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert all(float(row["val_accuracy"]) > 0.15 for row in rows)


@pytest.mark.slow  # six processes with Keras
def test_memory_measures_peaks_and_counts_the_minimum():
    memory = Memory(train_images=1400, test_images=100, teacher="4c-gap-10fc")
    (costs,) = memory.measure(1, lambda line: None)
    sizes = {
        group: [cost.peak_bytes for contender, (cost,) in costs.items() if contender.group == group]
        for group in ("imports", "peak", "required")
    }
    assert [len(each) for each in sizes.values()] == [1, 2, 4]
    assert sizes["required"][0] == 1500 * (32 * 32 * 3 + 4)
    assert min(sizes["peak"]) > sizes["imports"][0] + sizes["required"][2]


@pytest.mark.slow  # four processes that train
def test_a_second_start_follows_the_first():
    startup = next(each for each in suite.COMMANDS if each.name == "startup")
    (costs,) = startup.measure(1, lambda line: None)
    assert [(contender.group, len(each)) for contender, each in costs.items()] == [
        ("first", 2),
        ("second", 2),
    ]
