"""The figures of a model's answers, at the edges too."""

import matplotlib.image
import numpy as np
import pytest

from kapp.reporting import answers, scores

RANDOM = np.random.default_rng(3)


def assert_picture(path):
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) >= 200
    assert pixels[..., :3].std() > 0.02
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_reliability_draws_a_bar_of_accuracy_a_bin(tmp_path, monkeypatch):
    kept = []
    save = answers.Figure.savefig
    monkeypatch.setattr(
        answers.Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k))
    )
    logits, labels = RANDOM.normal(0, 2, (300, 4)), RANDOM.integers(0, 4, 300)
    bins = scores.calibration_bins(logits, labels)
    answers.reliability(bins, tmp_path / "reliability.png", "mine")
    assert_picture(tmp_path / "reliability.png")
    above, below = kept[0].axes
    heights = [bar.get_height() for bar in above.patches[:-1]]  # the last is the legend's
    assert heights == pytest.approx([row["accuracy"] for row in bins if row["images"]])
    assert sum(bar.get_height() for bar in below.patches) == 300


@pytest.mark.parametrize(("count", "channels"), [(1, 3), (7, 1), (30, 3)])
def test_a_sheet_shows_up_to_24_images(tmp_path, count, channels):
    images = RANDOM.integers(0, 256, (count, 8, 8, channels)).astype(np.uint8)
    names = [f"cost_{i} $5^$\ntaken for {i}\n99%" for i in range(count)]  # no mathematics
    answers.sheet(images, names, tmp_path / "sheet.png", "mistakes of $x_")
    assert_picture(tmp_path / "sheet.png")
