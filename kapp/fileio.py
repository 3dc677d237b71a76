"""Files that are either complete or absent, folder locks, checksums."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kapp import interrupt, progress
from kapp.errors import ConfigError, KappError, undecodable

if TYPE_CHECKING:
    import numpy as np

PARTIAL = re.compile(r"\.\d+-.+")  # of `atomic_file` and `atomic_folder`, begun with the writer's PID
MAX_REPLACED = 100  # times that another process may replace a folder at the same moment


def is_file(path: Path | str) -> bool:
    """Whether `path` is a file that this process can see. `Path.is_file` raises where a name is too long or
    a folder is closed."""
    return os.path.isfile(path)


def is_folder(path: Path | str) -> bool:
    """Whether `path` is a folder that this process can see; as `is_file`."""
    return os.path.isdir(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path that is renamed to `path` when the block ends without an error.

    A reader, also after a kill or a power failure at any moment, sees the old file or the new one, never a
    part of it.

    Raises:
        KappError: the file can't be written (no permission, disk full, not a folder).
    """
    # The suffix stays: Keras chooses the format by it.
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
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
def folder_lock(folder: Path, waiting: str, subfolders: Sequence[str] = ()) -> Iterator[None]:
    """Lock `folder` within the block; first wait until no other process has locked it.

    A process that ends or is killed releases the lock. The next one removes the partial files of a killed
    one.

    Args:
        waiting: the line to print before this process waits.
        subfolders: of `folder`, in which only a process with the lock writes, too.
    """
    from filelock import FileLock, Timeout  # here, because `--help` need not wait for it

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(waiting, flush=True)
        while not lock.is_locked:
            interrupt.check()
            progress.beat()
            with suppress(Timeout):
                lock.acquire(timeout=1)
    except OSError as error:
        raise KappError(
            f"cannot write to {folder}: {error.strerror or error}. "
            "Choose another place with --out or --data-dir."
        ) from error
    try:
        for each in (folder, *(folder / name for name in subfolders)):
            _remove_partial(each)
        yield
    finally:
        lock.release()


def link_or_copy(path: Path, new: Path) -> None:
    """Make the file `new` with the content of `path`: a hard link, which takes no room, where one can be."""
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_arrays(path: Path, way_out: str) -> dict[str, "np.ndarray"]:
    """The arrays of an .npz file, by name.

    Args:
        way_out: what the user can do if the file is damaged, a sentence.

    Raises:
        KappError: the file is missing or damaged, or contains pickled objects.
    """
    import numpy as np  # here, because `--help` need not wait for it

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            if others := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
                raise ValueError(f"{others[0]} in it is no array")
            return arrays
    except Exception as error:  # of many kinds: of zip, zlib, NumPy's headers and of memory
        first_line = next(iter(str(error).splitlines()), repr(error))
        raise KappError(f"{path} is damaged or no .npz file ({first_line}). {way_out}") from error


def write_array(path: Path, array: "np.ndarray") -> None:
    """Write an .npy file.

    `np.save` reports no error where the last few kilobytes don't fit on the disk.
    """
    import numpy as np  # here, because `--help` need not wait for it

    array = np.asarray(array, order="C")
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that replaces `folder` when the block ends without an error, and then removes what
    killed processes of this machine left of theirs.

    Otherwise an earlier `folder` stays as it was.

    Raises:
        KappError: it can't be written.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{os.getpid()}-{folder.name}")
    old = folder.with_name(f".{os.getpid()}-old-{folder.name}")
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    make_folder(folder.parent)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed process with this PID, as in a container
        partial.mkdir()
        yield partial
        _replace_folder(folder, partial, old)
        _remove_abandoned(folder)
    except OSError as error:
        raise KappError(
            f"cannot write {folder}: {error.strerror or error}. Free some room or choose another --out."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            with suppress(OSError):  # another process wrote it since
                old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        for parent in new_parents if not folder.exists() else ():
            with suppress(OSError):  # another process writes there
                parent.rmdir()


def _replace_folder(folder: Path, new: Path, old: Path) -> None:
    """Rename `folder`, where it exists, to `old` and `new` to `folder`."""
    for attempt in range(MAX_REPLACED):
        with suppress(FileNotFoundError):
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            new.rename(folder)
            return
        except OSError as error:
            # Not empty: another process wrote it since, and may have renamed it again before this line.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == MAX_REPLACED - 1:
                raise


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary folders of `folder` whose process has ended."""
    name = re.compile(rf"\.(\d+)-(old-)?{re.escape(folder.name)}")
    with suppress(OSError):
        for path in folder.parent.iterdir():
            if (match := name.fullmatch(path.name)) and not is_running(int(match[1])):
                shutil.rmtree(path, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Whether this machine has a process with the number `pid`, as far as it can be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove_partial(folder: Path) -> None:
    """Remove the partial files and folders in `folder`."""
    with suppress(OSError):
        for path in folder.iterdir():
            if not PARTIAL.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk; a file system may not offer that."""
    with suppress(PermissionError, IsADirectoryError):  # of folders, on some systems
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def refuse_file(folder: Path) -> None:
    """Refuse a file where a folder is to be.

    Raises:
        ConfigError: `folder`, or a folder that it is in, is a file.
    """
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not is_folder(path):
            raise ConfigError(f"{path} is a file, not a folder. Choose another --out.")


def refuse_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse to replace `folder` where that would delete what the command reads.

    Raises:
        ConfigError: one of `inputs` is `folder`, or in it.
    """
    resolved = folder.resolve()
    for path in inputs:
        if resolved in (path.resolve(), *path.resolve().parents):
            raise ConfigError(
                f"--overwrite would delete {path}, which this command reads: it is in {folder}. "
                "Choose another --out."
            )


def refuse_page(folder: Path, mark: str) -> None:
    """Refuse to write a report into `folder` where that would replace somebody else's README.md.

    Args:
        mark: the name of a file or folder that every report of the kind has.

    Raises:
        ConfigError: `folder` is a file, or has a README.md and no `mark`.
    """
    refuse_file(folder)
    if is_file(folder / "README.md") and not os.path.exists(folder / mark):
        raise ConfigError(
            f"{folder} has a README.md of its own, which the report would replace. Choose another --out."
        )


def refuse_undecodable(text: str) -> None:
    """Refuse a name that no file can be written with.

    Raises:
        ConfigError: it isn't valid UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(undecodable(text)) from error


def list_folder(folder: Path) -> list[Path]:
    """What `folder` contains; nothing where it doesn't exist.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        return sorted(folder.iterdir()) if is_folder(folder) else []
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}. Choose another --out.") from error


def refuse_folder(folder: Path, mark: str, what: str, overwrite: bool) -> None:
    """Refuse to write `what` into `folder` where that would lose files.

    Args:
        mark: the name of a file that every `what` has.
        overwrite: whether an earlier one may be replaced.

    Raises:
        ConfigError: `folder` is a file, the current folder, a folder with other files, or an earlier `what`
            that may not be replaced.
    """
    refuse_file(folder)
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"{folder} is the current folder and would be replaced. Choose another --out.")
    if not list_folder(folder):
        return
    if not is_file(folder / mark):
        raise ConfigError(
            f"{folder} contains files but no {what}: nothing was changed. Choose another --out."
        )
    if not overwrite:
        raise ConfigError(
            f"{folder} contains an earlier {what}. Choose another --out, or --overwrite to replace it."
        )
