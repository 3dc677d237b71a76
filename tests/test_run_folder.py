import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kapp import records
from kapp.errors import ConfigError, KappError
from kapp.models import keras_file
from kapp.records import Environment
from kapp.run_folder import Checkpoint, Predictions, Run, default_folder
from tests.example_records import CONFIG, RESULT, config, row
from tests.helpers import DAMAGES, flip


def test_a_new_run_writes_its_config(tmp_path):
    run = Run.create(tmp_path / "a" / "b", CONFIG)
    stored = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert len(stored.pop("checksum")) == 64
    assert stored == records.to_json(CONFIG)
    assert not run.is_finished


def test_the_same_config_resumes_and_another_is_refused(tmp_path):
    Run.create(tmp_path / "run", CONFIG).write_metrics([row(1)])
    again = Run.create(tmp_path / "run", config(out="run"))  # the folder is no part of the identity
    assert again.metrics_rows() == [row(1)]
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
    run.write_metrics([row(1)])
    run.write_result(RESULT)
    for path in run.checkpoint_files:
        path.write_bytes(b"")
    (run.folder / "notes.txt").write_text("mine")
    for name in ("export/onnx/manifest.json", "export/onnx/model.onnx", "export/mine/model.bin"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("{}")
    run = Run.create(run.folder, config(seed=1), overwrite=True)
    assert sorted(p.name for p in run.folder.rglob("*")) == [
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
    program = (
        "from kapp.run_folder import Run\nfrom tests.example_records import CONFIG\n"
        f"with Run.open({str(tmp_path / 'run')!r}, CONFIG): print('in')"
    )
    with Run.open(tmp_path / "run", CONFIG):
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
    with pytest.raises(ConfigError, match="file is a file, not a folder.*--out"):
        Run.create(tmp_path / "file" / "run", CONFIG)


def test_the_name_is_that_of_the_folder(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "mine", config())
    (run.folder / "figures").mkdir(exist_ok=True)
    monkeypatch.chdir(run.folder)
    assert {Run(path).name for path in (".", "figures/..", run.folder)} == {"mine"}


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
    began, left = threading.Event(), []

    def train():
        with Run.open(tmp_path / "run", CONFIG) as run:
            began.set()
            time.sleep(0.5)
            run.write_metrics([row(1)])
            left.append(run.metrics_rows())

    training = threading.Thread(target=train)
    training.start()
    began.wait()
    with Run.open(tmp_path / "run", CONFIG, overwrite=True) as anew:
        assert anew.metrics_rows() == []
    training.join()
    assert len(left[0]) == 1
    assert "waiting for another process that trains in" in capsys.readouterr().out


def test_open_locks_the_folder_and_resumes_what_it_holds(tmp_path):
    with Run.open(tmp_path / "run", CONFIG) as run:
        run.write_metrics([row(1)])
    with Run.open(tmp_path / "run", CONFIG) as run:
        assert not run.is_finished
        assert run.metrics_rows() == [row(1)]
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
    run.write_metrics([row(1)])
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
    run.write_metrics([row(1)])
    run.write_confusion([[1, 0], [0, 1]], ["a", "b"])
    (run.folder / "environment.json").write_text("{}")
    run.model_file.write_bytes(b"weights")
    run.copy_results(tmp_path / "copy")
    copy = Run(tmp_path / "copy")
    assert (copy.result, copy.metrics_rows()) == (RESULT, run.metrics_rows())
    assert not copy.model_file.exists()
    assert str(tmp_path) not in copy.config_file.read_text()


def finished(folder, config=CONFIG, threads=2, overwrite=False) -> Run:
    """A finished run with all its files."""
    run = Run.create(folder, config, overwrite)
    run.write_metrics([row(1), row(2, val_accuracy=0.5)])
    run.write_confusion([[3, 1], [0, 2]], ["a", "b"])
    none = np.zeros(0, np.int32)
    run.write_predictions(Predictions(*(none, none, np.zeros((0, 2), np.float16), none) * 2))
    run.model_file.write_bytes(b"weights")
    run.write_environment(Environment("0", "", "3", "Linux", "jax", "CPU", 1, threads, {}, "0" * 64))
    run.write_result(RESULT)
    return run


READERS = {
    "config.json": lambda run: run.config,
    "environment.json": lambda run: run.environment,
    "result.json": lambda run: run.result,
    "metrics.csv": Run.metrics_rows,
    "confusion.csv": Run.confusion,
    "predictions.npz": Run.predictions,
    "model.keras": lambda run: keras_file.path(run.folder),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_no_reader_believes_a_changed_file_of_a_finished_run(tmp_path, name, damage):
    run = finished(tmp_path / "run")
    READERS[name](run)
    DAMAGES[damage](run.folder / name)
    with pytest.raises((KappError, ConfigError)) as error:  # ConfigError: no run folder, without config.json
        READERS[name](Run(run.folder))
    assert "\n" not in str(error.value)
    assert name in str(error.value) or "unfinished run" in str(error.value)


def test_checkpoints_that_a_killed_process_left_in_a_finished_run_are_deleted(tmp_path):
    run = finished(tmp_path / "run")
    run.checkpoint_files[1].write_bytes(b"left")
    with Run.open(run.folder, CONFIG) as again:
        assert not run.checkpoint_files[1].exists()
        assert again.result == RESULT


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_a_valid_file_of_another_run_is_refused(tmp_path, name):
    run, other = finished(tmp_path / "run"), finished(tmp_path / "other", config(seed=1), threads=7)
    shutil.copyfile(other.folder / name, run.folder / name)
    with pytest.raises(KappError, match=f"run/{name} has changed since its run ended"):
        READERS[name](Run(run.folder))


def test_the_result_of_another_run_is_refused(tmp_path):
    run, other = finished(tmp_path / "run"), finished(tmp_path / "other", config(seed=1))
    shutil.copyfile(other.folder / "result.json", run.folder / "result.json")
    with pytest.raises(KappError, match="config.json has changed"):
        Run(run.folder).config  # noqa: B018


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run, other = (Run.create(tmp_path / str(seed), config(seed=seed)) for seed in (0, 1))
    for each in (run, other):
        each.write_checkpoint(Checkpoint([row(1)], "0" * 64, {"network0": np.zeros(2)}))
    shutil.copyfile(other.config_file, run.config_file)
    with pytest.raises(KappError, match="latest.npz is damaged .*it is of another run than config.json"):
        Run(run.folder).read_checkpoint(run.checkpoint_files[0])


def test_the_linear_probe_of_another_transfer_is_refused(tmp_path):
    run = finished(tmp_path / "run")
    assert run.probe is None
    finished(run.linear_probe)
    assert run.probe.result == RESULT
    finished(run.linear_probe, config(seed=1), overwrite=True)
    with pytest.raises(KappError, match="linear_probe is of another transfer"):
        run.probe  # noqa: B018


def test_overwriting_a_transfer_removes_its_linear_probe(tmp_path):
    run = finished(tmp_path / "run")
    finished(run.linear_probe)
    with Run.open(run.folder, config(seed=1), overwrite=True) as again:
        assert again.probe is None
        assert not run.linear_probe.exists()
        run.linear_probe.mkdir()
        (run.linear_probe / "notes.txt").write_text("mine")
    with Run.open(run.folder, config(seed=1), overwrite=True):
        assert (run.linear_probe / "notes.txt").exists()  # no run: not ours


def test_a_run_of_an_early_version_has_no_checksums_and_is_readable(tmp_path):
    run = finished(tmp_path / "run")
    for name in ("config.json", "result.json"):
        values = json.loads((run.folder / name).read_text())
        values.pop("sha256", None)
        del values["checksum"]
        (run.folder / name).write_text(json.dumps(values))
    assert (run.config, run.result) == (CONFIG, RESULT)
    for read in READERS.values():
        read(run)


def test_a_copy_of_a_changed_run_is_refused(tmp_path):
    run = finished(tmp_path / "run")
    run.copy_results(tmp_path / "copy")
    flip(tmp_path / "copy" / "metrics.csv")
    with pytest.raises(KappError, match=r"copy/metrics.csv has changed"):
        Run(tmp_path / "copy").copy_results(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_copy_keeps_no_predictions_of_an_earlier_copy(tmp_path):
    """A run of an early version has none."""
    finished(tmp_path / "new").copy_results(tmp_path / "copy")
    assert Run(tmp_path / "copy").predictions() is not None
    old = finished(tmp_path / "old")
    old.predictions_file.unlink()
    old.write_result(RESULT)
    old.copy_results(tmp_path / "copy")
    assert Run(tmp_path / "copy").predictions() is None


def test_the_latest_checkpoint_becomes_the_previous_one(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    for epochs in (1, 2, 3):
        rows = [row(i) for i in range(1, epochs + 1)]
        run.write_checkpoint(Checkpoint(rows, "0" * 64, {"network0": np.full(2, epochs)}))
    read = [run.read_checkpoint(path) for path in run.checkpoint_files]
    assert [len(each.metrics) for each in read] == [3, 2]
    assert [each.variables["network0"].tolist() for each in read] == [[3, 3], [2, 2]]
    assert read[0].metrics == [row(1), row(2), row(3)]


def test_each_flipped_bit_of_a_checkpoint_is_found_or_changes_nothing(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    written = Checkpoint([row(1)], "0" * 64, {"network0": np.arange(4.0)})
    run.write_checkpoint(written)
    path = run.checkpoint_files[0]
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            read = run.read_checkpoint(path)
        except KappError:
            continue
        assert (read.metrics, read.model_sha256) == (written.metrics, written.model_sha256)
        np.testing.assert_array_equal(read.variables["network0"], written.variables["network0"])


def test_two_commands_that_overwrite_run_one_after_the_other(tmp_path):
    """Each trains for a while in the folder, and its files are complete when the other one deletes them."""
    program = (
        "import sys, time\nfrom kapp.run_folder import Run\nfrom tests.example_records import CONFIG, row\n"
        f"with Run.open({str(tmp_path / 'run')!r}, CONFIG, overwrite=True) as run:\n"
        "    assert run.metrics_rows() == []\n"
        "    for epochs in range(1, 11):\n"
        "        run.write_metrics([row(i) for i in range(epochs)])\n"
        "        time.sleep(0.02)\n"
        "    assert len(run.metrics_rows()) == 10\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    ended = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert len(Run(tmp_path / "run").metrics_rows()) == 10


def test_the_next_process_removes_what_killed_writers_left(tmp_path):
    Run.create(tmp_path / "run", CONFIG)
    left = [tmp_path / "run" / name for name in (".4242-model.keras", "checkpoints/.4242-latest.npz")]
    for path in left:
        path.write_bytes(b"half")
    (tmp_path / "run" / ".mine").write_text("")
    with Run.open(tmp_path / "run", CONFIG):
        assert not any(path.exists() for path in left)
    assert (tmp_path / "run" / ".mine").exists()


REPORTED = sorted(Path(__file__).parents[1].glob("reports/*/runs/*/config.json"))


@pytest.mark.parametrize("config_file", REPORTED, ids=lambda path: "/".join(path.parts[-4:-1]))
def test_every_run_of_a_committed_report_is_readable(config_file, tmp_path):
    run = Run(config_file.parent)
    assert run.result.best_epoch <= run.metrics_rows()[-1]["epoch"]
    assert run.confusion().to_numpy().sum() == run.result.test_images
    assert run.environment.backend == run.config.backend == run.result.backend
    run.copy_results(tmp_path / "copy")
    copy = Run(tmp_path / "copy")
    assert (copy.config, copy.result, copy.metrics_rows()) == (run.config, run.result, run.metrics_rows())
    assert {"metrics.csv", "confusion.csv", "config.json", "environment.json"} <= copy.result.sha256.keys()
