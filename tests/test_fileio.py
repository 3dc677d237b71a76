"""Folders are replaced whole or not at all."""

import os
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kapp import progress
from kapp.errors import ConfigError, KappError
from kapp.fileio import (
    atomic_file,
    atomic_folder,
    folder_lock,
    is_file,
    is_folder,
    read_arrays,
    refuse_folder,
    write_array,
    write_text,
)


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


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs the names of open files")
def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_sync(descriptor):
        calls.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def record_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_text(tmp_path / "file.txt", "new")
    assert calls == [f"sync .{os.getpid()}-file.txt", "rename", f"sync {tmp_path.name}"]


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from kapp.fileio import write_array

size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    write_array(Path("array.npy"), np.arange(3000))
except OSError:
    sys.exit(3)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit of the size of a file")
@pytest.mark.parametrize("missing", [0, 1, 2000, 20_000])
def test_an_array_that_does_not_fit_on_the_disk_is_an_error(tmp_path, missing):
    """`np.save` ignores that the last bytes of its buffer aren't written."""
    size = 128 + 3000 * 8 - missing
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(size)], cwd=tmp_path)
    assert done.returncode == (3 if missing else 0)


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (4, 2, 3)])
def test_arrays_are_read_as_they_were_written(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for each in (array, array.T):
        write_array(tmp_path / "array.npy", each)
        found = np.load(tmp_path / "array.npy")
        assert (found.shape, found.dtype) == (each.shape, each.dtype)
        np.testing.assert_array_equal(found, each)


def test_partial_files_of_killed_processes_are_removed_with_the_lock(tmp_path):
    for name in (".42-a.json", "sub/.42-b.npz", "other/.42-c", ".mine", ".42", "42-d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    (tmp_path / ".43-export" / "variables").mkdir(parents=True)
    with folder_lock(tmp_path, "waiting", ["sub", "absent"]):
        found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {".lock", ".mine", ".42", "42-d", "sub", "other", "other/.42-c"}


def test_a_process_that_waits_for_a_lock_has_a_heartbeat(tmp_path, capsys):
    beat, is_locked = tmp_path / "beat", threading.Event()

    def lock_until_a_beat():
        with folder_lock(tmp_path, ""):
            is_locked.set()
            end = time.monotonic() + 5
            while not beat.exists() and time.monotonic() < end:
                time.sleep(0.01)

    other = threading.Thread(target=lock_until_a_beat)
    other.start()
    is_locked.wait()
    with progress.heartbeat(beat), folder_lock(tmp_path, "waiting for the other one"):
        assert beat.exists()
    other.join()
    assert capsys.readouterr().out == "waiting for the other one\n"


def test_a_member_of_an_npz_that_is_no_array_is_damage(tmp_path):
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("x.npy", "plain text")
    with pytest.raises(KappError, match=r"text\.npz is damaged or no \.npz file"):
        read_arrays(tmp_path / "text.npz", "Write it again.")


def test_an_error_leaves_no_empty_parent(tmp_path):
    with pytest.raises(ConfigError), atomic_folder(tmp_path / "a" / "b" / "c"):
        raise ConfigError("no")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_replace_a_folder_leave_one_of_the_two_whole(tmp_path):
    program = (
        "import sys; from pathlib import Path; from kapp.fileio import atomic_folder\n"
        "for i in range(50):\n"
        "    with atomic_folder(Path(sys.argv[1])) as partial:\n"
        "        for name in ('a', 'b'): (partial / name).write_text(sys.argv[2])\n"
    )
    with ThreadPoolExecutor(3) as pool:
        commands = [[sys.executable, "-c", program, str(tmp_path / "out"), name] for name in "xyz"]
        done = list(pool.map(lambda words: subprocess.run(words, capture_output=True, text=True), commands))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    assert len({(tmp_path / "out" / name).read_text() for name in ("a", "b")}) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_next_writer_of_a_folder_removes_what_a_killed_one_left(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; from kapp.fileio import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'a').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "out")])
    killed.wait()
    assert (tmp_path / f".{killed.pid}-out" / "a").exists()
    (tmp_path / f".{killed.pid}-old-out").mkdir()
    (tmp_path / f".{os.getpid()}-out").mkdir()  # in a container, processes get the same number again
    (tmp_path / f".{os.getpid()}-out" / "b").touch()
    kept = [f".{os.getppid()}-out", f".{killed.pid}-other", ".x-out"]  # of a living process, of other folders
    for name in kept:
        (tmp_path / name).mkdir()
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out"])
    assert contents(tmp_path / "out") == {"a": "whole"}


def test_names_that_no_file_can_have_are_no_files(tmp_path):
    for path in (tmp_path / ("x" * 300), "x" * 5000, "a\0b", tmp_path / "file" / "inside"):
        assert not is_file(path)
        assert not is_folder(path)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs limits on the size of files")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A file can't become larger than 1000 bytes: the system reports it as it reports a full disk."""
    (tmp_path / "file.txt").write_text("old")
    program = (
        "import resource, sys; from pathlib import Path; from kapp.errors import KappError\n"
        "from kapp.fileio import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_text(Path(sys.argv[1]), 5000 * 'x')\n"
        "except KappError as error: print(error)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "file.txt")]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"cannot write {tmp_path}/file.txt: File too large. Free some room")
    assert contents(tmp_path) == {"file.txt": "old"}


def test_an_error_in_the_block_keeps_the_old_file(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    def half_write():
        with atomic_file(tmp_path / "file.txt") as partial:
            partial.write_text("half")
            raise OSError(30, "Read-only file system")

    with pytest.raises(KappError, match="Read-only"):
        half_write()
    assert contents(tmp_path) == {"file.txt": "old"}
