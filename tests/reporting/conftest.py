"""What the tests of reports share."""

import pytest
from matplotlib.figure import Figure

from kapp.run_folder import Run
from tests.reporting.helpers import fabricate


@pytest.fixture
def make_run(tmp_path):
    """`make_run("name", "linear_3", 0.55, seed=1)`: a finished run folder."""

    def make(name: str, model: str = "linear_3", accuracy: float = 0.55, **changes) -> Run:
        return fabricate(tmp_path / name, model, accuracy, **changes)

    return make


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that a test saves."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self, *args, **kwargs):
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures
