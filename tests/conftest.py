"""Fixtures that the tests share: a tiny data set, and recipes as processes."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from tests.helpers import write_tiny_npz

hypothesis.settings.register_profile("kapp", deadline=None)  # tests don't time
hypothesis.settings.load_profile("kapp")


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory) -> Path:
    """The data set of `write_tiny_npz`."""
    return write_tiny_npz(tmp_path_factory.mktemp("npz") / "tiny.npz")


@pytest.fixture
def kapp(tmp_path):
    """Runs `python -m kapp.recipes.RECIPE ...` in `tmp_path` as a process of its own."""

    def run(recipe: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", f"kapp.recipes.{recipe}", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
