"""The manifest: its checksums, and the files that `verify` refuses."""

import json

import pytest

from kapp.errors import ConfigError, KappError
from kapp.export import manifest as manifest_file
from tests.export.helpers import manifest

GRAPH = "eef93e1d14482804277fca0172464032d1a4fdbcc338524059fa1e861454ad4d"  # printf graph | sha256sum


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    (folder / "README.md").write_text("card")
    manifest_file.write(manifest(format="saved_model"), folder)
    return folder


def test_it_lists_every_other_file_with_its_checksum(export):
    sha256 = {"README.md", "saved_model.pb", "variables/data"}
    stored = manifest_file.read(export)
    assert stored.sha256.keys() == sha256
    assert stored.sha256["saved_model.pb"] == GRAPH
    assert stored == manifest(format="saved_model", sha256=stored.sha256)
    manifest_file.verify(export)


def test_a_changed_file_is_refused(export):
    (export / "variables" / "data").write_bytes(b"Weights")
    with pytest.raises(KappError, match=r"variables/data has changed since the export.*--allow-unverified"):
        manifest_file.verify(export)


def test_a_missing_file_is_refused(export):
    (export / "variables" / "data").unlink()
    with pytest.raises(KappError, match="has no variables/data, which its manifest.json lists"):
        manifest_file.verify(export)


def test_an_added_file_is_refused(export):
    (export / "assets").mkdir()
    (export / "assets" / "more").write_bytes(b"")
    with pytest.raises(
        KappError, match=r"contains assets/more, which its manifest.json doesn't list.*--allow-unverified"
    ):
        manifest_file.verify(export)


def test_the_model_card_may_be_edited(export):
    (export / "README.md").write_text("what we use it for")
    manifest_file.verify(export)


def test_without_a_manifest_nothing_is_verified(export):
    (export / "manifest.json").unlink()
    assert manifest_file.read(export) is None
    with pytest.raises(
        ConfigError, match=r"has no manifest.json.*SavedModel can run code.*--allow-unverified"
    ):
        manifest_file.verify(export)


@pytest.mark.parametrize("text", ['{"name": "a web page"}', "[1, 2]", '{"classes": ["a"], "sha256": "0"}'])
def test_a_manifest_of_another_program_is_ignored(export, text):
    (export / "manifest.json").write_text(text)
    assert manifest_file.read(export) is None


def test_a_truncated_manifest_is_named(export):
    text = (export / "manifest.json").read_text()
    (export / "manifest.json").write_text(text[:40])
    with pytest.raises(KappError, match="manifest.json is damaged.*Export again"):
        manifest_file.read(export)


@pytest.mark.parametrize("changes", [{"classes": None}, {"classes": [0, 1]}, {"run": 5}])
def test_a_manifest_with_wrong_values_is_named(export, changes):
    values = json.loads((export / "manifest.json").read_text())
    del values["checksum"]
    (export / "manifest.json").write_text(json.dumps({**values, **changes}))
    with pytest.raises(KappError, match=f"manifest.json is damaged .*{next(iter(changes))}.*Export again"):
        manifest_file.read(export)
