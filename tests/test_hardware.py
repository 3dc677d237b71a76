"""The environment of a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kapp
from kapp import hardware


@pytest.mark.parametrize("commit", ["", "0123456789ab"])
def test_commit_outside_a_checkout(tmp_path, commit):
    """A copy of kapp without its repository, as in a container, takes its commit from the environment."""
    (tmp_path / "kapp").mkdir()
    for name in ("__init__.py", "hardware.py"):
        shutil.copy(Path(kapp.__file__).with_name(name), tmp_path / "kapp")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    env.pop("KAPP_COMMIT", None)
    if commit:
        env["KAPP_COMMIT"] = commit
    code = "from kapp import hardware; print(hardware.commit())"
    process = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == commit


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("4,7", ["4", "7"]), ("", []), ("-1", []), ("2,-1,3", ["2"]), ("GPU-8,MIG-1", ["GPU-8", "MIG-1"])],
)
def test_gpus_that_the_environment_hides(monkeypatch, visible, gpus):
    """As CUDA reads the variable."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.gpus() == gpus
