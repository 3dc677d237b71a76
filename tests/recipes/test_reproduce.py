"""The real command on tiny data: from nothing to its report, stopped, resumed, merged."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kapp import cli
from kapp.errors import ConfigError
from kapp.recipes import reproduce
from kapp.reproduction.schedule import Clock, parse_duration
from kapp.run_folder import Run
from tests.helpers import file_names, untimed_metrics, weight_bytes
from tests.reporting.helpers import assert_links_exist, cells

REPORT_FILES = {"README.md", "rows.csv", "figures", "runs"}
# As if they weren't installed.
BLOCKED = """
import sys
from importlib.machinery import PathFinder

MISSING = ("tensorflow", "tensorflow_datasets", "keras_tuner", "distributed", "dask")

class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Others
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "kapp.recipes.reproduce", *map(str, words)]


def run(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess:
    """Run the command in `folder`, which also has its data cache."""
    (folder / "cache").mkdir(exist_ok=True)
    environment = {**os.environ, "KAPP_DATA_DIR": "cache", **environment}
    return subprocess.run(
        command(*words), cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )


def small(tiny_npz: Path, *words: object) -> tuple[object, ...]:
    return ("--scale", "small", "--dataset", f"npz:{tiny_npz}", *words)


def trained(done: subprocess.CompletedProcess) -> list[str]:
    """The lines at the start of runs."""
    return [line for line in done.stdout.splitlines() if line.startswith("run ")]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, tiny_npz):
    """Two rows of table 3, which need three runs."""
    folder = tmp_path_factory.mktemp("reproduced")
    done = run(folder, *small(tiny_npz, "--table", "ratusznik:3", "--rows", "linear_3"))
    assert done.returncode == 0, done.stderr
    return folder, done


def test_two_rows_from_nothing_to_their_report(reproduced):
    folder, done = reproduced
    assert len(trained(done)) == 3
    assert "run 1 of 3: linear_3 on npz:" in done.stdout
    assert "whole plan: " in done.stdout
    assert "width 0.125: every layer has that fraction" in done.stdout
    assert "3 runs, 0 found, 3 to do: " in done.stdout
    out = folder / "reproduction" / "small-tiny"
    assert file_names(out) == REPORT_FILES
    assert len(list((folder / "runs").iterdir())) == 3
    text = (out / "README.md").read_text()
    lines = {line["row"]: line for line in cells(text)}
    assert len(lines) == 10  # the whole table
    runs = {each.result.teachers: each for each in map(Run, (folder / "runs").iterdir())
            if each.result.model == "linear_3"}  # fmt: skip
    for name, teachers in (("linear_3 on labels", ()), ("linear_3 from teacher_1", ("teacher_1",))):
        assert lines[name]["ours"].startswith(f"{100 * runs[teachers].result.test_accuracy:.1f}% (")
        assert (lines[name]["n"], lines[name]["epochs"]) == ("1", "20")
    assert lines["conv_1 on labels"]["ours"] == "not run"
    assert "`kapp reproduce --table ratusznik:3 --rows 'conv_1 on labels' --scale small" in text
    assert "p" in cells("| comparison" + text.split("| comparison", 1)[1])[0]
    assert file_names(out / "figures") == {f"ratusznik-figure-{i}.png" for i in (1, 2, 3)}
    assert_links_exist(text, out, least=4)


def test_the_same_command_again_trains_nothing(reproduced, tiny_npz):
    folder, _ = reproduced
    done = run(folder, *small(tiny_npz, "--table", "ratusznik:3", "--rows", "linear_3"))
    assert done.returncode == 0, done.stderr
    assert trained(done) == []
    assert "2 runs, 2 found, 0 to do" in done.stdout


def test_a_run_of_distill_is_found(reproduced, tiny_npz):
    """A user's own command leaves the same runs."""
    folder, _ = reproduced
    words = "-m kapp.recipes.distill --teacher teacher_1 --student linear_3 --scale small --dataset".split()
    done = subprocess.run(
        [sys.executable, *words, f"npz:{tiny_npz}"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already complete, skipping") == 3


def test_a_dry_run_prints_the_hours_of_all_scales_and_trains_nothing(reproduced, tiny_npz):
    folder, _ = reproduced
    rows = ("--table", "ratusznik:3", "--rows", "linear_3 on labels")
    words = small(tiny_npz, *rows, "--seeds", 2, "--out", "dry", "--dry-run")
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "2 runs, 1 found, 1 to do" in done.stdout
    assert "1. linear_3 on npz:" in done.stdout
    for line in ("  paper: 2 runs, ", "  short: 2 runs, ", "  small: 2 runs, "):
        assert line in done.stdout
    assert trained(done) == []
    assert not (folder / "dry").exists()
    assert len(list((folder / "runs").iterdir())) == 3
    (row,) = cells(done.stdout)
    assert (row["row"], row["epochs"], row["runs to do"]) == ("linear_3 on labels", "20", "1")
    # The speeds are measured once: at this scale before the run.
    assert done.stdout.count("images/s in training") == 2
    assert "images/s in training" not in run(folder, *words).stdout


@pytest.mark.slow
def test_what_does_not_fit_into_the_budget_is_not_run(reproduced, tiny_npz):
    folder, _ = reproduced
    rows = ("--table", "ratusznik:3", "--rows", "linear_4 on labels")
    done = run(folder, *small(tiny_npz, *rows, "--budget", "0.01s", "--out", "late"))
    assert done.returncode == 0, done.stderr
    assert trained(done) == []
    assert "not run: 1 run, about" in done.stdout
    text = (folder / "late" / "README.md").read_text()
    lines = {line["row"]: line for line in cells(text)}
    assert lines["linear_4 on labels"]["ours"] == "not run (< 1 min here)"
    assert "--rows 'linear_4 on labels' --scale small" in text


def test_runs_from_elsewhere_fill_their_rows(reproduced, tiny_npz, tmp_path):
    folder, _ = reproduced
    shutil.copytree(folder / "runs", tmp_path / "gpu")
    for path in (tmp_path / "gpu").glob("*/config.json"):
        config = json.loads(path.read_text())
        del config["checksum"]
        path.write_text(json.dumps(config | {"backend": "jax" if config["backend"] != "jax" else "torch"}))
        Run(path.parent).write_result(Run(path.parent).result)
    words = ("--table", "ratusznik:3", "--rows", "linear_3", "--merge", "gpu", "--out", "merged")
    done = run(tmp_path, *small(tiny_npz, *words))
    assert done.returncode == 0, done.stderr
    assert "2 found, 0 to do" in done.stdout
    assert trained(done) == []
    assert not (tmp_path / "runs").exists()
    assert "Merged from run folders of another machine" in (tmp_path / "merged" / "README.md").read_text()


@pytest.mark.slow
def test_a_killed_command_resumes_in_the_same_run_folder(reproduced, tiny_npz, tmp_path):
    words = small(tiny_npz, "--table", "ratusznik:3", "--rows", "linear_3 on labels")
    (tmp_path / "cache").mkdir()
    environment = {**os.environ, "KAPP_DATA_DIR": "cache"}
    process = subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not any(
        len(path.read_text().splitlines()) > 3 for path in (tmp_path / "runs").glob("*/metrics.csv")
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder,) = (tmp_path / "runs").iterdir()
    assert not Run(folder).is_finished
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert len(trained(done)) == 1
    assert "epoch 1/12" not in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    whole = Run(reproduced[0] / "runs" / folder.name)
    assert untimed_metrics(Run(folder)) == untimed_metrics(whole)
    assert weight_bytes(Run(folder)) == weight_bytes(whole)


@pytest.mark.slow
def test_a_run_that_fails_stops_what_needs_it_and_nothing_else(reproduced, tiny_npz, tmp_path):
    """Images of 8x8 pixels are too small for the networks of Hu 2018."""
    targets = ("--target", f"npz:{tiny_npz}", f"npz:{tiny_npz}")
    rows = ("--rows", "fine-tuning, class1", "linear_3 on labels")
    words = ("--table", "hu:4", "ratusznik:3", *rows)
    done = run(tmp_path, *small(tiny_npz, *words, *targets, "--out", "out"))
    assert done.returncode == 1
    assert "kapp: 3 of 4 runs failed: the report has the reasons." in done.stderr
    assert "Traceback" not in done.stderr
    text = (tmp_path / "out" / "README.md").read_text()
    assert "all_cnn_c: the layers don't fit images of (8, 8, 3)" in text
    assert "which failed" in text
    lines = {line["row"]: line for line in cells(text.split("table 3")[1])}
    assert lines["linear_3 on labels"]["n"] == "1"


@pytest.mark.slow
def test_without_tensorflow_and_dask(tiny_npz, tmp_path):
    """On a machine that has JAX alone: cifar10 comes from the array cache."""
    pytest.importorskip("jax")
    from kapp.data.array_cache import load_or_create
    from kapp.data.sources import npz

    (tmp_path / "cache" / "arrays").mkdir(parents=True)
    load_or_create(tmp_path / "cache" / "arrays" / "cifar10", lambda: npz.load(tiny_npz))
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    done = run(
        tmp_path,
        *("--scale", "small", "--table", "ratusznik:3", "--rows", "linear_3 on labels", "--out", "out"),
        KERAS_BACKEND="jax",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), os.getcwd()]),
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (Run(folder).result.backend, Run(folder).result.dataset) == ("jax", "cifar10")
    assert cells((tmp_path / "out" / "README.md").read_text())[4]["n"] == "1"


@pytest.mark.slow
def test_two_workers(tiny_npz, tmp_path):
    pytest.importorskip("distributed")
    rows = ("--rows", "linear_3 on labels", "linear_4 on labels", "conv_1 on labels")
    done = run(tmp_path, *small(tiny_npz, "--table", "ratusznik:3", *rows, "--workers", 2, "--out", "out"))
    assert done.returncode == 0, done.stderr
    assert len(trained(done)) == 3
    assert {Run(path).is_finished for path in (tmp_path / "runs").iterdir()} == {True}
    logs = {path.name for path in (tmp_path / "out" / "logs").iterdir()}
    assert len(logs) == 6  # three measurements of speed, three trainings
    assert "epoch" not in done.stderr  # each run has a log of its own
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Of 10 published accuracies, 3 are compared" in text


@pytest.mark.slow
def test_a_whole_table_from_nothing_to_its_report(tiny_npz, tmp_path):
    done = run(tmp_path, *small(tiny_npz, "--table", "ratusznik:3"))
    assert done.returncode == 0, done.stderr
    assert len(trained(done)) == 11  # five students on labels and distilled, and their teacher
    out = tmp_path / "reproduction" / "small-tiny"
    text = (out / "README.md").read_text()
    assert (
        "Of 10 published accuracies, 10 are compared with 10 runs, 10 of them with all their seeds." in text
    )
    assert [line["n"] for line in cells(text)] == ["1"] * 10
    assert len(cells("| comparison" + text.split("| comparison", 1)[1])) == 5
    assert "not run" not in text.lower().replace("not run again", "")
    assert_links_exist(text, out, least=4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--table ratusznik:7", "unknown table 'ratusznik:7'"),
        ("--table", "--table needs at least one of ratusznik:3,"),
        ("--rows linear_5", "unknown row 'linear_5'"),
        ("--table hu:3 --rows linear_3", "unknown row 'linear_3'.* Accepted: base_a on labels"),
        ("--seeds 0", "--seeds is 0"),
        ("--budget soon", "--budget is 'soon': it must be a time such as 6h"),
        ("--width teacher_2=0.5", "unknown network 'teacher_2'. Did you mean 'teacher_1'"),
        ("--target shapes:near", "--target has 1 data sets: give two"),
        ("--target shapes:near cifar11", "unknown data set 'cifar11'"),
        ("--dataset cifar11", "unknown data set 'cifar11'"),
        ("--merge gone", "--merge gone: there is no finished run in it"),
        ("--data-dir gone", "there is no folder 'gone'"),
        ("--insecure", "--insecure goes with --scheduler|Dask, which isn't installed"),
    ],
)
def test_wrong_values_are_refused(flags, message):
    config = cli.parse(reproduce.Config, flags.split())
    with pytest.raises(ConfigError, match=message):
        config.check()


def test_the_printed_command_of_a_row_has_all_that_decides_on_its_runs():
    flags = "--table ratusznik:3 --seeds 2 --width conv_1=0.5 --dataset shapes --out mine "
    flags += "--target shapes:near shapes:far --precision float32"
    config = cli.parse(reproduce.Config, flags.split())
    [row] = [row for row in config.all_rows if row.name == "conv_1 on labels"]
    printed = cli.parse(reproduce.Config, shlex.split(config.command(row))[2:])
    assert printed == replace(config, rows=("conv_1 on labels",))


def test_a_dashboard_needs_a_worker():
    assert cli.parse(reproduce.Config, ["--workers", "1"]).is_serial
    assert not cli.parse(reproduce.Config, ["--dashboard"]).is_serial


def test_durations():
    texts = ("6h", "1.5h", "90min", "90m", "45s", "2d", "2 h")
    assert [parse_duration(text) for text in texts] == [21600, 5400, 5400, 5400, 45, 172800, 7200]
    for text in ("", "h", "6", "-1h", "0h", "1h30m"):
        with pytest.raises(ConfigError, match="--budget is"):
            parse_duration(text)


def test_the_budget_counts_what_runs_really_took():
    clock = Clock(budget=1000)
    assert clock.fits(900)
    assert not clock.fits(1100)
    clock.record(estimated=100, spent=250)
    assert clock.pace == 2.5
    assert not clock.fits(450)
    assert clock.fits(350)
    clock.record(estimated=1, spent=100)  # too short to say anything
    assert clock.pace == 2.5
    assert Clock(budget=None).fits(1e9)
    assert not Clock(budget=1000, started=time.monotonic() - 950).fits(100)
