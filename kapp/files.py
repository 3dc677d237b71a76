"""Files that are either whole or absent."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kapp.errors import Failure, WrongValue


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    A reader, and a run killed at any moment, sees the old file or the new one, never a part.

    Raises:
        Failure: the file can't be written (no permission, disk full, not a folder).
    """
    # The suffix stays: Keras chooses the format by it.
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise Failure(
            f"cannot write {path}: {error.strerror or error}. "
            "Free some room or choose another place with --out or --data-dir."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` at once and whole."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents.

    Raises:
        Failure: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"cannot write to {folder}: {error.strerror or error}. "
            "Choose another place with --out or --data-dir."
        ) from error
    if not os.access(folder, os.W_OK):
        raise Failure(
            f"cannot write to {folder}: permission denied. Choose another place with --out or --data-dir."
        )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same out of `folder` meanwhile; wait for one that is there."""
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that trains in {folder}", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)  # and with it goes the lock, also when the process is killed


def checksum(path: Path) -> str:
    """The SHA-256 of the file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place, whole, when the block ends well; otherwise
    what was there stays.

    Raises:
        Failure: it can't be written.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{os.getpid()}-{folder.name}")
    old = folder.with_name(f".{os.getpid()}-old-{folder.name}")
    make_folder(folder.parent)
    try:
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        raise Failure(
            f"cannot write {folder}: {error.strerror or error}. Free some room or choose another --out."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def refuse_folder(folder: Path, mark: str, what: str, overwrite: bool) -> None:
    """Refuse to write `what` into `folder` where that would lose something.

    Args:
        mark: the name of a file that every earlier `what` holds.
        overwrite: whether an earlier one may be replaced.

    Raises:
        WrongValue: a file, the current folder, a folder of other things, or an earlier one that isn't to be
            replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise WrongValue(f"{folder} is a file, not a folder. Choose another --out.")
    if folder.resolve() == Path.cwd():
        raise WrongValue(f"{folder} is where you are, and would be replaced. Choose another --out.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / mark).is_file():
        raise WrongValue(
            f"{folder} holds files but no {what}: nothing there was touched. Choose another --out."
        )
    if not overwrite:
        raise WrongValue(
            f"{folder} holds an earlier {what}. Choose another --out, or --overwrite to replace it."
        )
