import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kapp import records
from kapp.errors import ConfigError, KappError
from kapp.run_folder import Predictions, Run, default_folder
from tests.example_records import CONFIG, RESULT, config


def test_a_new_run_writes_its_config(tmp_path):
    run = Run.create(tmp_path / "a" / "b", CONFIG)
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text()) == records.to_json(CONFIG)
    assert not run.is_finished


def test_the_same_config_resumes_and_another_is_refused(tmp_path):
    Run.create(tmp_path / "run", CONFIG).write_metrics([{"epoch": 1, "loss": 2.0}])
    again = Run.create(tmp_path / "run", config(out="run"))  # the folder is no part of the identity
    assert again.metrics_rows() == [{"epoch": 1, "loss": 2.0}]
    with pytest.raises(ConfigError, match="contains another run \\(seed: 0 -> 1\\).*--overwrite"):
        Run.create(tmp_path / "run", config(seed=1))
    assert again.metrics_rows()


def test_a_run_without_a_younger_setting_is_the_one_where_it_is_off(tmp_path):
    Run.create(tmp_path / "run", CONFIG)
    off = config(mixup=0.0, cutmix=0.0, random_erasing=0.0, crop_scale=1.0, hue=0.0)
    assert default_folder(off, ["linear_3"]) == default_folder(CONFIG, ["linear_3"])
    Run.create(tmp_path / "run", off)
    assert default_folder(config(mixup=0.1), ["linear_3"]) != default_folder(CONFIG, ["linear_3"])
    with pytest.raises(ConfigError, match="contains another run \\(mixup: None -> 0.1\\)"):
        Run.create(tmp_path / "run", config(mixup=0.1))


def test_overwrite_deletes_the_files_of_a_run_and_no_others(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    run.write_metrics([{"epoch": 1}])
    run.write_result(RESULT)
    run.checkpoint_file.write_bytes(b"")
    (run.folder / "notes.txt").write_text("mine")
    for name in ("export/onnx/manifest.json", "export/onnx/model.onnx", "export/mine/model.bin"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("{}")
    run = Run.create(run.folder, config(seed=1), overwrite=True)
    assert sorted(p.name for p in run.folder.rglob("*")) == [
        ".lock",
        "checkpoints",
        "config.json",
        "export",
        "figures",
        "mine",
        "model.bin",
        "notes.txt",
    ]
    assert run.config.settings["seed"] == 1


def test_only_one_process_trains_in_a_folder(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    program = f"from kapp.run_folder import Run\nwith Run({str(run.folder)!r}).lock(): print('in')"
    with run.lock():
        other = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline().startswith("waiting for another process that trains in")
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "in\n"


def test_a_folder_of_other_things_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="contains files but no run"):
            Run.create(tmp_path, CONFIG, overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a run folder"):
        Run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        Run.create(tmp_path / "file", CONFIG)
    with pytest.raises(KappError, match="cannot write to .*file/run.*--out"):
        Run.create(tmp_path / "file" / "run", CONFIG)


def test_an_unfinished_run_has_no_result(tmp_path):
    with pytest.raises(KappError, match="unfinished run. Run its command again"):
        Run.create(tmp_path / "run", CONFIG).result  # noqa: B018


def test_damaged_files_are_named(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    run.metrics_file.write_text("epoch,loss\n1,2.0\n2,")
    with pytest.raises(KappError, match="metrics.csv is damaged.*--overwrite"):
        run.metrics_rows()
    run.config_file.write_text('{"recipe": ')
    with pytest.raises(KappError, match="config.json is damaged"):
        Run.create(run.folder, CONFIG)


def test_classes_keep_their_names_whatever_they_are(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    run.write_confusion([[3, 1, 0], [0, 2, 0], [0, 0, 4]], ["nan", "a, b", "true"])
    counts = run.confusion()
    assert list(counts.index) == list(counts.columns) == list(run.classes) == ["nan", "a, b", "true"]
    assert counts.loc["nan", "a, b"] == 1
    assert counts.loc["true", "true"] == 4


def test_the_default_folder_depends_on_settings_and_data_alone():
    names = ["linear_3", "npz:/data/my.set.npz"]
    folder = default_folder(config(seed=3), names)
    assert folder.parent.name == "runs"
    assert folder.name.startswith("train-linear_3-my.set-s3-")
    same = default_folder(config(seed=3, overwrite=True), names)
    other = default_folder(config(seed=3, width=2), names)
    assert folder == same != other


def test_a_run_that_was_killed_while_its_folder_was_made_starts_again(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".4242-config.json").write_text("{")
    assert Run.create(tmp_path / "run", CONFIG).config == CONFIG


def test_overwriting_waits_for_a_process_that_trains_there(tmp_path, capsys):
    run = Run.create(tmp_path / "run", CONFIG)
    began, left = threading.Event(), []

    def train():
        with run.lock():
            began.set()
            time.sleep(0.5)
            run.write_metrics([{"epoch": 1, "loss": 2.0}])
            left.append(run.metrics_rows())

    training = threading.Thread(target=train)
    training.start()
    began.wait()
    anew = Run.create(tmp_path / "run", CONFIG, overwrite=True)
    training.join()
    assert len(left[0]) == 1
    assert anew.metrics_rows() == []
    assert "waiting for another process that trains in" in capsys.readouterr().out


def test_open_locks_the_folder_and_resumes_what_it_holds(tmp_path):
    with Run.open(tmp_path / "run", CONFIG) as run:
        run.write_metrics([{"epoch": 1, "loss": 2.0}])
    with Run.open(tmp_path / "run", CONFIG) as run:
        assert not run.is_finished
        assert run.metrics_rows() == [{"epoch": 1, "loss": 2.0}]
        run.write_result(RESULT)
    assert Run(tmp_path / "run").result == RESULT


def test_predictions_are_read_as_they_were_written(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    assert run.predictions() is None
    logits = np.array([[0.5, -1.0], [2.0, 3.0]], np.float16)
    samples, labels, classes = (np.array(pair, np.int32) for pair in ((7, 9), (0, 1), (0, 1)))
    written = Predictions(*(samples, labels, logits, classes) * 2)
    run.write_predictions(written)
    for name, array in run.predictions()._asdict().items():
        np.testing.assert_array_equal(array, getattr(written, name))
        assert array.dtype == getattr(written, name).dtype
    run.predictions_file.write_bytes(run.predictions_file.read_bytes()[:100])
    with pytest.raises(KappError, match=r"predictions.npz is damaged"):
        run.predictions()


def test_a_copy_has_the_predicted_classes_and_no_logits(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    run.write_result(RESULT)
    run.write_confusion([[1, 0], [0, 1]], ["a", "b"])
    (run.folder / "environment.json").write_text("{}")
    run.write_metrics([{"epoch": 1, "loss": 2.0}])
    logits = np.array([[0.5, -1.0], [2.0, 3.0]], np.float16)
    samples, labels, classes = (np.array(pair, np.int32) for pair in ((7, 9), (0, 1), (1, 0)))
    run.write_predictions(Predictions(*(samples, labels, logits, classes) * 2))
    run.copy_results(tmp_path / "copy")
    copied = Run(tmp_path / "copy").predictions()
    for name in ("test_samples", "test_labels", "test_classes"):
        np.testing.assert_array_equal(getattr(copied, name), getattr(run.predictions(), name))
    assert copied.test_logits.shape == copied.validation_logits.shape == (0, 2)


def test_a_copy_has_no_network_and_no_path(tmp_path):
    run = Run.create(tmp_path / "run", config(out=str(tmp_path / "run"), data_dir=str(tmp_path)))
    run.write_result(RESULT)
    run.write_metrics([{"epoch": 1, "loss": 2.0}])
    run.write_confusion([[1, 0], [0, 1]], ["a", "b"])
    (run.folder / "environment.json").write_text("{}")
    run.model_file.write_bytes(b"weights")
    run.copy_results(tmp_path / "copy")
    copy = Run(tmp_path / "copy")
    assert (copy.result, copy.metrics_rows()) == (RESULT, run.metrics_rows())
    assert not copy.model_file.exists()
    assert str(tmp_path) not in copy.config_file.read_text()
