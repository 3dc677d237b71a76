"""The sweep folder: new, resumed, overwritten, refused."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kapp import cli
from kapp.errors import ConfigError, KappError
from kapp.recipes import train
from kapp.records import SearchRange, SweepConfig, Trial
from kapp.run_folder import Run
from kapp.sweep_folder import Sweep
from tests import example_records

RANGE = SearchRange("dropout", 0.0, 0.6)
CONFIG = SweepConfig("train", "jax", "0", "random", True, (RANGE,), None, {"epochs": 3, "seed": 0})


def test_config_and_trials_are_read_as_they_were_written(tmp_path):
    trial = Trial(0, {"layers": 2, "dropout": 0.5}, epochs=1, run=0, config={"rates": [0.1], "width": 1.0})
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        sweep.write_trial(trial)
    assert Sweep(sweep.folder).config == CONFIG
    [again] = Sweep(sweep.folder).trials()
    assert again == trial
    assert isinstance(again.values["layers"], int)  # as the oracle proposed it


def test_half_written_files_of_a_killed_process_are_ignored(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / ".4242-sweep.json").write_text("{")
    with Sweep.open(folder, CONFIG) as sweep:
        sweep.write_trial(Trial(0, {}, epochs=1, run=0))
    trials = sweep.folder / "trials"
    (trials / ".4242-000.json").write_text((trials / "000.json").read_text())
    (trials / ".4242-001.json").write_text("")
    assert [trial.number for trial in sweep.trials()] == [0]


@pytest.mark.parametrize("place", ["mine/trials/000.json", "other/trials/001.json"])
def test_a_trial_of_another_number_or_sweep_is_refused(tmp_path, place):
    for name, config in (("mine", CONFIG), ("other", replace(CONFIG, tuner="bayesian"))):
        with Sweep.open(tmp_path / name, config) as sweep:
            for number in (0, 1):
                sweep.write_trial(Trial(number, {}, epochs=1, run=number))
    mine = Sweep(tmp_path / "mine")
    assert len(mine.trials()) == 2
    shutil.copyfile(tmp_path / place, mine.folder / "trials" / "001.json")
    with pytest.raises(KappError, match="001.json is that of another trial or sweep. Remove it"):
        mine.trials()


def test_changed_settings_of_the_best_trial_are_refused(tmp_path):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        sweep.write_best({"epochs": 3, "learning_rate": 0.125})
    flags = ["--config", str(sweep.best_file)]
    assert cli.parse(train.Config, flags).hparams.learning_rate == 0.125
    sweep.best_file.write_text(sweep.best_file.read_text().replace("0.125", "0.124"))
    with pytest.raises(ConfigError, match="best.json: its values differ from its checksum. Where you edited"):
        cli.parse(train.Config, flags)


@pytest.mark.parametrize("text", ["{", "{}", '{"number": 0, "values": {}, "epochs": 1, "run": 0, "rn": 1}'])
def test_a_damaged_trial_is_named(tmp_path, text):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        (sweep.folder / "trials" / "000.json").write_text(text)
    with pytest.raises(KappError, match=r"000\.json is damaged .*Remove it: the trial is run again"):
        sweep.trials()


def test_another_sweep_is_refused_with_all_differences(tmp_path):
    with Sweep.open(tmp_path / "sweep", CONFIG):
        pass
    other = replace(CONFIG, space=(replace(RANGE, high=0.5),), settings={"epochs": 4, "seed": 0})
    with pytest.raises(ConfigError) as error, Sweep.open(tmp_path / "sweep", other):
        pass
    changes = "(range of dropout: '0.0:0.6' -> '0.0:0.5', epochs: 3 -> 4)"
    assert f"contains another sweep {changes}. Choose" in str(error.value)


def test_the_run_of_an_earlier_best_trial_is_not_that_of_the_best(tmp_path):
    def config(**settings):
        return example_records.config(baseline=True, out=str(tmp_path), **settings)

    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        run = Run.create(sweep.best_folder, config(mixup=0.5, width=1.0))
        run.write_result(example_records.RESULT)
        run.report_file.write_text("a report")
        for settings, expected in (
            ({"mixup": 0.5, "width": 1.0}, True),
            ({"mixup": 0.0, "width": 1.0}, False),  # off, so no part of an identity
            ({"mixup": 0.5, "width": 2.0}, False),
        ):
            trial = Trial(0, {}, epochs=3, run=0, config={**config(**settings).settings, "baseline": False})
            assert sweep.is_best_finished(trial) == expected


def best_of(sweep: Sweep) -> Trial:
    """A trial whose finished run is in best/."""
    config = example_records.config()
    Run.create(sweep.best_folder, config).write_result(example_records.RESULT)
    return Trial(0, {}, epochs=3, run=0, config=config.settings)


def test_the_best_run_without_a_report_is_not_finished(tmp_path):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        trial = best_of(sweep)
        assert not sweep.is_best_finished(trial)  # the disk was full: the same command writes the report
        sweep.best_run.report_file.write_text("a report")
        assert sweep.is_best_finished(trial)


@pytest.mark.parametrize("lost", ["config.json", "result.json"])
def test_a_best_run_that_lost_a_file_is_refused_by_reports_and_trained_again(tmp_path, lost):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        trial = best_of(sweep)
        sweep.best_run.report_file.write_text("a report")
        sweep.write_best(trial.config)
        (sweep.best_folder / lost).unlink()
        with pytest.raises(KappError, match=rf"best is damaged \(it has no {lost}\)\. Remove it, and run"):
            sweep.copy_results(tmp_path / "report")
        assert not sweep.is_best_finished(trial)


def test_a_report_without_the_settings_of_the_best_trial_is_refused(tmp_path):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        best_of(sweep)
        with pytest.raises(KappError, match=r"best.json is missing\. Run the sweep's command again"):
            sweep.copy_results(tmp_path / "report")


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_report_misses_no_trial(tmp_path, lost):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        for number in range(3):
            sweep.write_trial(Trial(number, {}, epochs=3, run=number))
            sweep.run_folder(number).mkdir()
        (sweep.folder / "trials" / "004-old").mkdir()  # the user's
        (sweep.folder / "trials" / f"{lost:03d}.json").unlink()
        with pytest.raises(KappError, match=rf"00{lost}.json is missing\. Run the sweep's command again"):
            sweep.copy_results(tmp_path / "report")
        assert not (tmp_path / "report").exists()


def test_a_sweep_that_lost_a_trial_is_not_complete_with_fewer_trials(tmp_path):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        for number in range(3):
            sweep.write_trial(Trial(number, {}, epochs=3, run=number, status="failed", end_order=number))
        sweep.write_best({})
        assert sweep.is_complete(2)
        (sweep.folder / "trials" / "001.json").unlink()
        assert not sweep.is_complete(2)  # the same command runs trial 1 again


def test_the_copy_of_the_best_trials_run_has_its_own_folder_in_its_settings(tmp_path):
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        source = Run.create(sweep.run_folder(4), example_records.config(out=str(sweep.run_folder(4))))
        probe = Run.create(source.linear_probe, source.config)
        for run in (source, probe):
            run.model_file.write_bytes(b"a network")
        probe.write_result(example_records.RESULT)  # finished: its files have checksums
        sweep.copy_to_best(Trial(4, {}, epochs=3, run=4, config=source.config.settings), with_run=True)
        best = Run(sweep.best_folder)
        for run in (best, best.probe):
            assert run.config.settings == {**source.config.settings, "out": str(sweep.best_folder)}
            assert run.check_file("config.json")
            assert run.model_file.read_bytes() == b"a network"
        assert (best.is_finished, best.probe.is_finished) == (False, True)


def test_overwriting_waits_for_another_process(tmp_path, capsys):
    trials, is_open = [], threading.Event()

    def search():
        with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
            is_open.set()
            time.sleep(0.5)
            sweep.write_trial(Trial(0, {}, epochs=1, run=0))
            trials.extend(sweep.trials())

    other = threading.Thread(target=search)
    other.start()
    is_open.wait()
    with Sweep.open(tmp_path / "sweep", CONFIG, overwrite=True) as sweep:
        assert sweep.trials() == []
    other.join()
    assert len(trials) == 1
    assert "waiting for another process that searches in" in capsys.readouterr().out


REPORTED = sorted(Path(__file__).parents[1].glob("reports/**/sweep.json"))


@pytest.mark.parametrize("config_file", REPORTED, ids=lambda path: path.parent.name)
def test_every_trial_of_a_committed_report_is_readable(config_file):
    trials = Sweep(config_file.parent).trials()
    assert sorted(trial.end_order for trial in trials) == [trial.number for trial in trials]
    assert all(trial.end_order < trial.num_created_at_end <= len(trials) for trial in trials)
