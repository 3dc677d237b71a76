"""Folders are replaced whole or not at all."""

import pytest

from kapp.errors import ConfigError, KappError
from kapp.fileio import atomic_folder, refuse_folder


def contents(folder) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_a_folder_takes_the_place_of_an_earlier_one_whole(tmp_path):
    out = tmp_path / "new" / "out"
    for words in ("first", "second"):
        with atomic_folder(out) as partial:
            assert partial.parent == out.parent
            (partial / f"{words}.txt").write_text(words)
    assert contents(tmp_path) == {"new/out/second.txt": "second"}


def test_what_ends_badly_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("old")

    def half_write():
        with atomic_folder(out) as partial:
            (partial / "new.txt").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_write()
    assert contents(tmp_path) == {"out/old.txt": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(KappError, match="cannot write to .*file"), atomic_folder(tmp_path / "file" / "out"):
        pass
    with pytest.raises(KappError, match="cannot write .*No space"), atomic_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert contents(tmp_path) == {"file": "mine"}


def test_nobody_elses_folder_is_replaced(tmp_path, monkeypatch):
    refuse_folder(tmp_path / "absent", "mark", "export", overwrite=False)
    (tmp_path / "empty").mkdir()
    refuse_folder(tmp_path / "empty", "mark", "export", overwrite=False)
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="contains files but no export"):
            refuse_folder(tmp_path, "mark", "export", overwrite)
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        refuse_folder(tmp_path / "thesis.tex", "mark", "export", overwrite=True)
    (tmp_path / "mark").write_text("")
    refuse_folder(tmp_path, "mark", "export", overwrite=True)
    with pytest.raises(ConfigError, match="contains an earlier export.*--overwrite"):
        refuse_folder(tmp_path, "mark", "export", overwrite=False)
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="is the current folder"):
        refuse_folder(tmp_path / "empty", "mark", "export", overwrite=True)
