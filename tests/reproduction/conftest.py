"""What the rows of a plan have in common, on the tiny data set."""

import pytest

from kapp.reproduction.paper_rows import Shared
from kapp.reproduction.plan import load_dataset


@pytest.fixture
def shared(tiny_npz, tmp_path, monkeypatch) -> Shared:
    """Of plans whose runs lie in `tmp_path`, the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    load_dataset.cache_clear()
    name = f"npz:{tiny_npz}"
    return Shared("small", name, (name, name), {}, 4, str(tmp_path), "auto")
