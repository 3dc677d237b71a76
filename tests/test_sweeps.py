"""The sweep folder: what a kill may leave in it, and what is another sweep."""

import threading
import time

import pytest

from kapp.errors import WrongValue
from kapp.sweeps import Sweep, Trial

RANGE = {"name": "dropout", "low": 0.0, "high": 0.6}
SETTINGS = {"tuner": "random", "space": [RANGE], "config": {"epochs": 3, "seed": 0}}


def test_what_a_kill_left_half_written_is_no_trial(tmp_path):
    sweep = Sweep.start(tmp_path / "sweep", SETTINGS)
    sweep.write_trial(Trial(0, {}, epochs=1, run=0))
    for name, text in ((".4242-000.json", (sweep.folder / "trials" / "000.json").read_text()),
                       (".4242-001.json", "")):  # fmt: skip
        (sweep.folder / "trials" / name).write_text(text)
    assert [trial.number for trial in sweep.trials()] == [0]


def test_a_folder_in_which_a_sweep_was_killed_as_it_began_is_begun_anew(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / ".4242-sweep.json").write_text("{")
    assert Sweep.start(folder, SETTINGS).settings == SETTINGS


def test_what_makes_it_another_sweep_is_named_alone(tmp_path):
    Sweep.start(tmp_path / "sweep", SETTINGS)
    other = {**SETTINGS, "space": [{**RANGE, "high": 0.5}], "config": {"epochs": 4, "seed": 0}}
    with pytest.raises(WrongValue) as error:
        Sweep.start(tmp_path / "sweep", other)
    changes = "(range of dropout: '0.0:0.6' -> '0.0:0.5', epochs: 3 -> 4)"
    assert f"holds another sweep {changes}. Choose" in str(error.value)


def test_overwriting_waits_for_who_searches_there(tmp_path, capsys):
    sweep = Sweep.start(tmp_path / "sweep", SETTINGS)
    ended = []

    def search():
        with sweep.alone():
            began.set()
            time.sleep(0.5)
            sweep.write_trial(Trial(0, {}, epochs=1, run=0))
            ended.append(sweep.trials())

    began = threading.Event()
    searching = threading.Thread(target=search)
    searching.start()
    began.wait()
    anew = Sweep.start(tmp_path / "sweep", SETTINGS, overwrite=True)
    searching.join()
    assert len(ended[0]) == 1
    assert anew.trials() == []
    assert "waiting for another process that searches in" in capsys.readouterr().out
