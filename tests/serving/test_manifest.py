"""What the manifest vouches for, and what it doesn't."""

import json

import pytest

from kapp.errors import Failure, WrongValue
from kapp.serving import manifest

GRAPH = "eef93e1d14482804277fca0172464032d1a4fdbcc338524059fa1e861454ad4d"  # printf graph | sha256sum


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    (folder / "README.md").write_text("card")
    manifest.write(folder, {"name": "mine", "classes": ["cat", "dog"]})
    return folder


def test_it_lists_every_file_with_its_checksum(export):
    held = manifest.read(export)
    assert (held["name"], held["classes"]) == ("mine", ["cat", "dog"])
    assert held["sha256"].keys() == {"saved_model.pb", "variables/data", "README.md"}
    assert held["sha256"]["saved_model.pb"] == GRAPH
    manifest.verify(export)


def test_changed_missing_and_added_files_are_refused(export):
    (export / "variables" / "data").write_bytes(b"Weights")
    with pytest.raises(Failure, match=r"variables/data isn't what was exported.*--trust"):
        manifest.verify(export)
    (export / "variables" / "data").unlink()
    with pytest.raises(Failure, match="lacks variables/data"):
        manifest.verify(export)
    (export / "variables" / "data").write_bytes(b"weights")
    manifest.verify(export)
    (export / "assets").mkdir()
    (export / "assets" / "more").write_bytes(b"")
    with pytest.raises(Failure, match=r"holds assets/more, which its manifest.json doesn't list.*--trust"):
        manifest.verify(export)


def test_the_model_card_is_for_editing(export):
    (export / "README.md").write_text("what we use it for")
    manifest.verify(export)


def test_without_a_manifest_nothing_vouches(export):
    (export / "manifest.json").write_text('{"name": "a web page"}')  # somebody else's file of that name
    assert manifest.read(export) == {}
    (export / "manifest.json").unlink()
    with pytest.raises(WrongValue, match=r"has no manifest.json.*SavedModel is a program.*--trust"):
        manifest.verify(export)


def test_a_damaged_manifest_is_named(export):
    text = (export / "manifest.json").read_text()
    assert json.loads(text)
    (export / "manifest.json").write_text(text[:40])
    with pytest.raises(Failure, match="manifest.json is damaged"):
        manifest.verify(export)


@pytest.mark.parametrize("facts", [{"classes": None}, {"classes": [0, 1]}, {"classes": ["a"], "dataset": 5}])
def test_a_manifest_of_other_things_is_damaged(export, facts):
    manifest.write(export, facts)
    with pytest.raises(Failure, match="manifest.json is damaged .its classes or its dataset.. Export again"):
        manifest.read(export)
