import json
import subprocess
import sys
import threading
import time

import pytest

from kapp.errors import Failure, WrongValue
from kapp.runs import Run, default_folder

CONFIG = {"recipe": "train", "model": "linear_3", "seed": 0, "out": None}


def test_a_new_run_writes_its_config(tmp_path):
    run = Run.start(tmp_path / "a" / "b", CONFIG)
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text()) == CONFIG
    assert not run.finished


def test_the_same_config_resumes_and_another_is_refused(tmp_path):
    Run.start(tmp_path / "run", CONFIG).write_epochs([{"epoch": 1, "loss": 2.0}])
    again = Run.start(tmp_path / "run", {**CONFIG, "out": "run"})  # where it lies is no part of it
    assert again.epochs() == [{"epoch": 1, "loss": 2.0}]
    with pytest.raises(WrongValue, match="holds another run \\(seed: 0 -> 1\\).*--overwrite"):
        Run.start(tmp_path / "run", {**CONFIG, "seed": 1})
    assert again.epochs()


def test_overwrite_forgets_a_runs_files_and_nobody_elses(tmp_path):
    run = Run.start(tmp_path / "run", CONFIG)
    run.write_epochs([{"epoch": 1}])
    run.write_result({"status": "finished"})
    run.checkpoint_file.write_bytes(b"")
    (run.folder / "notes.txt").write_text("mine")
    for name in ("export/onnx/manifest.json", "export/onnx/model.onnx", "export/mine/model.bin"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("{}")
    run = Run.start(run.folder, {**CONFIG, "seed": 1}, overwrite=True)
    assert sorted(p.name for p in run.folder.rglob("*")) == [
        "checkpoints",
        "config.json",
        "export",
        "figures",
        "mine",
        "model.bin",
        "notes.txt",
    ]
    assert run.config["seed"] == 1


def test_only_one_process_trains_in_a_folder(tmp_path):
    run = Run.start(tmp_path / "run", CONFIG)
    program = f"from kapp.runs import Run\nwith Run({str(run.folder)!r}).alone(): print('in')"
    with run.alone():
        other = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline().startswith("waiting for another process that trains in")
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "in\n"


def test_a_folder_of_other_things_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(WrongValue, match="holds files but no run"):
            Run.start(tmp_path, CONFIG, overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(WrongValue, match="is not a run folder"):
        Run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongValue, match="is a file, not a folder"):
        Run.start(tmp_path / "file", CONFIG)
    with pytest.raises(Failure, match="cannot write to .*file/run.*--out"):
        Run.start(tmp_path / "file" / "run", CONFIG)


def test_an_unfinished_run_has_no_result(tmp_path):
    with pytest.raises(Failure, match="unfinished run. Run its command again"):
        Run.start(tmp_path / "run", CONFIG).result  # noqa: B018


def test_damaged_files_are_named(tmp_path):
    run = Run.start(tmp_path / "run", CONFIG)
    run.metrics_file.write_text("epoch,loss\n1,2.0\n2,")
    with pytest.raises(Failure, match="metrics.csv is damaged.*--overwrite"):
        run.epochs()
    run.config_file.write_text('{"recipe": ')
    with pytest.raises(Failure, match="config.json is damaged"):
        Run.start(run.folder, CONFIG)


def test_classes_keep_their_names_whatever_they_are(tmp_path):
    run = Run.start(tmp_path / "run", CONFIG)
    run.write_confusion([[3, 1, 0], [0, 2, 0], [0, 0, 4]], ["nan", "a, b", "true"])
    counts = run.confusion()
    assert list(counts.index) == list(counts.columns) == list(run.classes) == ["nan", "a, b", "true"]
    assert counts.loc["nan", "a, b"] == 1
    assert counts.loc["true", "true"] == 4


def test_the_same_experiment_finds_its_folder_and_no_other_does():
    folder = default_folder("train", ["linear_3", "npz:/data/my.set.npz"], 3, CONFIG)
    assert folder.parent.name == "runs"
    assert folder.name.startswith("train-linear_3-my.set-s3-")
    same = default_folder("train", ["linear_3", "npz:/data/my.set.npz"], 3, {**CONFIG, "overwrite": True})
    other = default_folder("train", ["linear_3", "npz:/data/my.set.npz"], 3, {**CONFIG, "width": 2})
    assert folder == same != other


def test_a_folder_in_which_a_run_was_killed_as_it_began_is_begun_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".4242-config.json").write_text("{")
    assert Run.start(tmp_path / "run", CONFIG).config == CONFIG


def test_overwriting_waits_for_who_trains_there(tmp_path, capsys):
    run = Run.start(tmp_path / "run", CONFIG)
    began, left = threading.Event(), []

    def train():
        with run.alone():
            began.set()
            time.sleep(0.5)
            run.write_epochs([{"epoch": 1, "loss": 2.0}])
            left.append(run.epochs())

    training = threading.Thread(target=train)
    training.start()
    began.wait()
    anew = Run.start(tmp_path / "run", CONFIG, overwrite=True)
    training.join()
    assert len(left[0]) == 1
    assert anew.epochs() == []
    assert "waiting for another process that trains in" in capsys.readouterr().out
