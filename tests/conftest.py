"""Fixtures that the tests share: a tiny data set, and recipes as processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory) -> Path:
    """A data set of 200 + 50 images of 8x8 in three classes that differ in brightness."""
    random = np.random.default_rng(0)

    def split(count: int):
        labels = np.arange(count) % 3
        images = random.normal(60 + 60 * labels[:, None, None, None], 40, (count, 8, 8, 3))
        return images.clip(0, 255).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = split(200), split(50)
    path = tmp_path_factory.mktemp("npz") / "tiny.npz"
    np.savez(
        path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=["dark", "mid", "light"]
    )
    return path


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
