import re
import time

import pytest

from kapp import data
from kapp.data import sources
from kapp.errors import ConfigError, KappError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1", "Did you mean 'cifar10'"),
        ("npz:", "unknown data set 'npz:'"),
        ("npz:/nowhere/x.npz", "there is no file '/nowhere/x.npz'"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        data.load(name)


@pytest.mark.parametrize("name", [*sources.NAMES, "cifar100:bear,bus", "tfds:mnist"])
def test_known_names_are_accepted_without_loading(name):
    sources.check(name)


def test_a_missing_data_folder_is_refused():
    with pytest.raises(ConfigError, match="there is no folder '/nowhere'"):
        data.load("cifar10", data_dir="/nowhere")


def test_without_a_network_the_refusal_is_fast_and_lists_three_alternatives(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.tfds, "DOWNLOADS", "http://127.0.0.1:9")  # no server uses this port
    started = time.monotonic()
    with pytest.raises(KappError, match=r"no network.*--data-dir.*npz:PATH.*--dataset shapes"):
        data.load("cifar10", data_dir=str(tmp_path))
    assert time.monotonic() - started < 10
    assert list(tmp_path.iterdir()) == []  # no temporary folders


def test_without_a_home_the_message_says_what_to_set(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KAPP_DATA_DIR")
    monkeypatch.setattr(sources.Path, "home", home)
    assert sources.home("mine").name == "mine"
    with pytest.raises(
        ConfigError, match=r"no folder for data sets .* Set --data-dir, KAPP_DATA_DIR or HOME"
    ):
        sources.home()
