"""Figures of a model's predictions, each written to the PNG file `path` with `title` above it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kapp.records import CalibrationBin
from kapp.reporting.figures import BLUE, GRAY, ORANGE, save

COLUMNS = 6
MAX_IMAGES = 24  # in one grid


def reliability(bins: Sequence[CalibrationBin], path: Path, title: str) -> None:
    """Draws accuracy by confidence, and below it the number of images with that confidence.

    Reference: Guo et al. 2017, "On calibration of modern neural networks", figure 1.

    Args:
        bins: as from `metrics.classification.calibration_bins`.
    """
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for each in bins:
        center, width = (each.low + each.high) / 2, 0.92 * (each.high - each.low)
        lower.bar(center, each.images, width, color=GRAY)
        if each.accuracy is not None and each.confidence is not None:
            upper.bar(center, each.accuracy, width, color=BLUE)
            upper.plot([center - width / 2, center + width / 2], [each.confidence] * 2, color=ORANGE, lw=2)
    upper.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    upper.bar(0, 0, color=BLUE, label="accuracy")
    upper.plot([], [], color=ORANGE, lw=2, label="mean confidence")
    upper.legend(frameon=False, loc="upper left")
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.set_ylabel("accuracy")
    lower.set_ylabel("images")
    lower.set_xlabel("confidence (greatest probability)")
    upper.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.xaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path, title)


def image_grid(images: Iterable[np.ndarray], captions: Sequence[str], path: Path, title: str) -> None:
    """Draws the first `MAX_IMAGES` images, each above its caption.

    Args:
        images: uint8 (height, width, channels) each; unless channels are 3 or 4, the first is drawn in gray.
        captions: one per image, of a few short lines.
    """
    shown = list(zip(images, captions))[:MAX_IMAGES]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    lines = max(caption.count("\n") + 1 for _, caption in shown)
    figure = Figure(
        figsize=(max(1.75 * columns, 4.2), (1.5 + 0.2 * lines) * rows + 0.5), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (image, caption) in zip(panels, shown):
        axes.imshow(image if image.shape[-1] in (3, 4) else image[..., 0], cmap="gray", vmin=0, vmax=255)
        # A title below the image, because the layout reserves room for titles only.
        axes.set_title(caption, fontsize=9, y=0, pad=-4, verticalalignment="top", parse_math=False)
    save(figure, path, title)
