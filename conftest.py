"""What tests and docstring examples share: one Keras backend per process, and their own data cache."""

import os
from pathlib import Path

import pytest

BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_HOME"] = os.environ.get("KERAS_HOME", "/nonexistent")  # no user's keras.json

# Examples of the docstrings: importing a second backend's module would import that backend.
collect_ignore = [
    f"kapp/training/backends/{backend}.py" for backend in {"tensorflow", "jax", "torch"} - {BACKEND}
]


@pytest.fixture(scope="session", autouse=True)
def data_cache(tmp_path_factory) -> Path:
    """The folder in which this process and its child processes cache data sets."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["KAPP_DATA_DIR"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def examples_in_own_folder(request, monkeypatch) -> None:
    """Docstring examples that write files write them into a temporary folder."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))
