"""docs/extend.md, followed as it is written: each section changes a copy of kapp and runs its commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from kapp.run_folder import Run

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extend.md"
BLOCK = re.compile(r"```(python|diff)\n(.*?)```|^    (python -m [^\n]+)$", re.DOTALL | re.MULTILINE)


def sections() -> dict[str, str]:
    """The text of each section of the page, by its title."""
    _, *parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2]))


def apply_diff(clone: Path, diff: str) -> None:
    """Change the file that the first line of `diff` names; the old lines must be in it exactly once."""
    name, *lines = diff.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-"))
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "+"))
    text = (clone / name).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{name} must contain once:\n{old}"
    (clone / name).write_text(text.replace(old, new), encoding="utf-8")


def follow(section: str, clone: Path, run: bool) -> None:
    """Do what `section` describes, on a copy of kapp: write files, apply diffs and, with `run`, run the
    Python code and the commands."""
    shutil.copytree(ROOT / "kapp", clone / "kapp", ignore=shutil.ignore_patterns("__pycache__"))
    for language, text, command in BLOCK.findall(section):
        new_file = re.match(r"# (kapp/\S+\.py)\n", text)
        if language == "diff":
            apply_diff(clone, text)
        elif new_file:
            (clone / new_file[1]).write_text(text[new_file.end() :], encoding="utf-8")
        elif run:
            arguments = ["-c", text] if text else command.split()[1:]
            environment = {**os.environ, "PYTHONPATH": str(clone)}
            done = subprocess.run(
                [sys.executable, *arguments], cwd=clone, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{arguments}\n{done.stderr}"


def check_network(clone: Path) -> None:
    assert Run(clone / "runs" / "small_conv").result.model == "small_conv"
    assert keras.models.load_model(clone / "separable.keras").output_shape == (None, 10)


def check_loss(clone: Path) -> None:
    assert Run(clone / "runs" / "cosine").config.settings["distillation_loss"] == "cosine"


def check_data_set(clone: Path) -> None:
    run = Run(clone / "runs" / "checkers")
    assert run.classes == ("small", "large")
    assert run.result.test_images == 200


def check_callback(clone: Path) -> None:
    norms = [row["weight_norm"] for row in Run(clone / "runs" / "weight_norm").metrics_rows()]
    assert len(norms) == 2
    assert norms[0] != norms[1]


CHECKS: dict[str, Callable[[Path], None]] = {
    "Add a network": check_network,
    "Add a loss": check_loss,
    "Add a data set": check_data_set,
    "Add a callback": check_callback,
}


def test_every_section_is_followed():
    assert list(sections()) == list(CHECKS)


@pytest.mark.parametrize("title", CHECKS)
def test_the_diffs_of_a_section_apply(title, tmp_path):
    follow(sections()[title], tmp_path, run=False)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the page assumes the default backend")
@pytest.mark.parametrize("title", CHECKS)
def test_a_section_works_as_it_is_written(title, tmp_path):
    follow(sections()[title], tmp_path, run=True)
    CHECKS[title](tmp_path)


def test_a_diff_is_refused_where_its_lines_are_missing(tmp_path):
    (tmp_path / "module.py").write_text("a = 1\n")
    with pytest.raises(AssertionError, match="must contain once"):
        apply_diff(tmp_path, "module.py\n-b = 1\n+b = 2\n")
