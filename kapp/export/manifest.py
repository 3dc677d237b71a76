"""`manifest.json`: the record of an export, with the checksums of its files."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kapp import records
from kapp.errors import ConfigError, KappError
from kapp.fileio import checksum, is_file, is_folder
from kapp.records import ExportManifest, RunSummary
from kapp.run_folder import Run

FILE = "manifest.json"
MODEL_CARD = "README.md"
EXPORT_AGAIN = "Export again."
UNVERIFIED = "If you trust its origin, add --allow-unverified"


def write(manifest: ExportManifest, folder: Path) -> None:
    """Write `manifest` to `folder`, with the checksums of all other files there."""
    sha256 = {name: checksum(folder / name) for name in _files(folder)}
    records.write(replace(manifest, sha256=sha256), folder / FILE)


def read(folder: Path) -> ExportManifest | None:
    """The manifest in `folder`; None if there is no such file, or another program wrote it.

    Raises:
        KappError: the file is damaged.
    """
    path = folder / FILE
    if not is_file(path):
        return None
    values = records.read(Any, path, EXPORT_AGAIN)
    if not (isinstance(values, dict) and isinstance(values.get("sha256"), dict) and "classes" in values):
        return None
    return records.read(ExportManifest, path, EXPORT_AGAIN)


def find(path: Path) -> ExportManifest | None:
    """The manifest of the export at `path`, which is its folder or the model file in it; None without one."""
    if is_folder(path):
        return read(path)
    manifest = read(path.parent)
    return manifest if manifest and path.name in manifest.sha256 else None


def verify(folder: Path) -> None:
    """Check that `folder` contains exactly the files that its manifest lists, unchanged.

    This detects damaged, confused and added files. It doesn't prove who wrote the manifest. The model card
    is not checked, because users edit it.

    Raises:
        ConfigError: there is no manifest.
        KappError: a file is missing, changed or not listed.
    """
    manifest = read(folder)
    if manifest is None:
        raise ConfigError(
            f"{folder} has no {FILE}, so its files can't be verified, and a SavedModel can run code. "
            f"{UNVERIFIED}."
        )
    listed, found = set(manifest.sha256) - {MODEL_CARD}, set(_files(folder)) - {MODEL_CARD}
    for name in sorted(listed | found):
        if name not in found:
            raise KappError(f"{folder} has no {name}, which its {FILE} lists. {EXPORT_AGAIN}")
        if name not in listed:
            raise KappError(
                f"{folder} contains {name}, which its {FILE} doesn't list. Remove it. {UNVERIFIED}."
            )
        if checksum(folder / name) != manifest.sha256[name]:
            raise KappError(
                f"{folder / name} has changed since the export: its SHA-256 differs. {UNVERIFIED}."
            )


def summarize(run: Run) -> RunSummary:
    """What an export keeps of the finished run that trained its network."""
    values = {**records.to_json(run.config), **records.to_json(run.result), "name": run.folder.resolve().name}
    names = [field.name for field in fields(RunSummary)]
    return records.from_json(RunSummary, {name: values.get(name) for name in names}, run.folder)


def _files(folder: Path) -> list[str]:
    """Every file below `folder` except the manifest, as paths relative to it."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not is_folder(path))
    return sorted(name for name in paths if name != FILE)
