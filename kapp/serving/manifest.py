"""manifest.json: what an export is, and the checksums of its files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kapp.errors import Failure, WrongValue
from kapp.files import checksum, write_text

NAME = "manifest.json"
CARD = "README.md"
TRUST = "If you know where it comes from, --trust loads it all the same"


def write(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `facts` to the manifest of `folder`, with the SHA-256 of every other file in it."""
    sha256 = {name: checksum(folder / name) for name in _files(folder)}
    write_text(folder / NAME, json.dumps({**facts, "sha256": sha256}, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, or {} where there is none of an export.

    Raises:
        Failure: it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} is damaged ({error}). Export again.") from error
    if not (isinstance(held, dict) and isinstance(held.get("sha256"), dict) and "classes" in held):
        return {}  # somebody else's
    classes, dataset = held["classes"], held.get("dataset")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not (named and isinstance(dataset, str | None)):
        raise Failure(f"{path} is damaged (its classes or its dataset). Export again.")
    return held


def verify(folder: Path) -> None:
    """Refuse an export whose files aren't those that its manifest lists.

    It tells damage and mix-ups, and files added later. It can't tell who wrote the manifest: an export from
    a stranger is as trustworthy as the stranger. The model card is for editing and isn't looked at.

    Raises:
        WrongValue: there is no manifest.
        Failure: a file is missing, changed or not listed.
    """
    held = read(folder)
    if not held:
        raise WrongValue(
            f"{folder} has no {NAME}, so nothing says that it is what was exported; a SavedModel is a "
            f"program. {TRUST}."
        )
    listed, found = set(held["sha256"]) - {CARD}, set(_files(folder)) - {CARD}
    for name in sorted(listed | found):
        if name not in found:
            raise Failure(f"{folder} lacks {name}, which its {NAME} lists. Export again.")
        if name not in listed:
            raise Failure(f"{folder} holds {name}, which its {NAME} doesn't list. Remove it. {TRUST}.")
        if checksum(folder / name) != held["sha256"][name]:
            raise Failure(f"{folder / name} isn't what was exported: its SHA-256 differs. {TRUST}.")


def _files(folder: Path) -> list[str]:
    """Every file below `folder` but the manifest, as paths relative to it."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in paths if name != NAME)
