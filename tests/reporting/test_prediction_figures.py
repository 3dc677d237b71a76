"""The figures of a model's predictions."""

import numpy as np
import pytest

from kapp.metrics import classification
from kapp.reporting import prediction_figures
from tests.reporting.helpers import assert_figure

RANDOM = np.random.default_rng(3)


def test_reliability_draws_the_accuracy_of_each_bin(tmp_path, drawn):
    logits, labels = RANDOM.normal(0, 2, (300, 4)), RANDOM.integers(0, 4, 300)
    bins = classification.calibration_bins(logits, labels)
    prediction_figures.reliability(bins, tmp_path / "reliability.png", "mine")
    assert_figure(tmp_path / "reliability.png")
    upper, lower = drawn[0].axes
    heights = [bar.get_height() for bar in upper.patches[:-1]]  # the last is the legend's
    assert heights == pytest.approx([each.accuracy for each in bins if each.images])
    assert sum(bar.get_height() for bar in lower.patches) == 300


@pytest.mark.parametrize(("count", "channels"), [(1, 3), (7, 1), (30, 3)])
def test_a_grid_has_up_to_24_images(tmp_path, drawn, count, channels):
    images = RANDOM.integers(0, 256, (count, 8, 8, channels)).astype(np.uint8)
    names = [f"cost_{i} $5^$\nclassified as {i}\n99%" for i in range(count)]  # no mathematics
    prediction_figures.image_grid(images, names, tmp_path / "grid.png", "mistakes of $x_")
    assert_figure(tmp_path / "grid.png", (400, 200))
    assert len(drawn[0].axes[0].images) == 1
    assert sum(len(axes.images) for axes in drawn[0].axes) == min(count, 24)
