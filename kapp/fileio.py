"""Files that are either complete or absent, folder locks, checksums."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kapp.errors import ConfigError, KappError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path that is renamed to `path` when the block ends without an error.

    A reader, also after a kill at any moment, sees the old file or the new one, never a part of it.

    Raises:
        KappError: the file can't be written (no permission, disk full, not a folder).
    """
    # The suffix stays: Keras chooses the format by it.
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise KappError(
            f"cannot write {path}: {error.strerror or error}. "
            "Free some room or choose another place with --out or --data-dir."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to the file `path`, completely or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents.

    Raises:
        KappError: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KappError(
            f"cannot write to {folder}: {error.strerror or error}. "
            "Choose another place with --out or --data-dir."
        ) from error
    if not os.access(folder, os.W_OK):
        raise KappError(
            f"cannot write to {folder}: permission denied. Choose another place with --out or --data-dir."
        )


@contextmanager
def folder_lock(folder: Path, waiting: str) -> Iterator[None]:
    """Keep other processes out of such a block with the same `folder`; wait for one that is in it.

    The lock ends with the process, also when it is killed.

    Args:
        waiting: the line to print while this process waits.
    """
    from filelock import FileLock, Timeout  # here, because `--help` need not wait for it

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(waiting, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that replaces `folder` when the block ends without an error.

    Otherwise an earlier `folder` stays as it was.

    Raises:
        KappError: it can't be written.
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
        raise KappError(
            f"cannot write {folder}: {error.strerror or error}. Free some room or choose another --out."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def refuse_folder(folder: Path, mark: str, what: str, overwrite: bool) -> None:
    """Refuse to write `what` into `folder` where that would lose files.

    Args:
        mark: the name of a file that every `what` has.
        overwrite: whether an earlier one may be replaced.

    Raises:
        ConfigError: `folder` is a file, the current folder, a folder with other files, or an earlier `what`
            that may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder. Choose another --out.")
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"{folder} is the current folder and would be replaced. Choose another --out.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / mark).is_file():
        raise ConfigError(
            f"{folder} contains files but no {what}: nothing was changed. Choose another --out."
        )
    if not overwrite:
        raise ConfigError(
            f"{folder} contains an earlier {what}. Choose another --out, or --overwrite to replace it."
        )
