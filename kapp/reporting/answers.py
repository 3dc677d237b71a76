"""A model's answers as PNG files: how far its confidence holds, and the images themselves."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kapp.files import replacing
from kapp.reporting.figures import COLOURS, DPI, GREY

COLUMNS = 6
SHEET = 24  # images that a sheet has room for
BLUE, ORANGE = COLOURS[0], COLOURS[5]


def reliability(bins: Sequence[Mapping], path: Path, title: str) -> None:
    """Accuracy by confidence, and below it how many images have that confidence.

    Guo et al. 2017, "On calibration of modern neural networks", figure 1.

    Args:
        bins: `scores.calibration_bins`.
    """
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for row in bins:
        middle, width = (row["from"] + row["to"]) / 2, 0.92 * (row["to"] - row["from"])
        below.bar(middle, row["images"], width, color=GREY)
        if row["images"]:
            above.bar(middle, row["accuracy"], width, color=BLUE)
            above.plot([middle - width / 2, middle + width / 2], [row["confidence"]] * 2, color=ORANGE, lw=2)
    above.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    above.bar(0, 0, color=BLUE, label="accuracy")
    above.plot([], [], color=ORANGE, lw=2, label="mean confidence")
    above.legend(frameon=False, loc="upper left")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.set_ylabel("accuracy")
    above.set_title(title, parse_math=False)
    below.set_ylabel("images")
    below.set_xlabel("confidence: the greatest probability")
    above.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.xaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def sheet(images: Iterable[np.ndarray], captions: Sequence[str], path: Path, title: str) -> None:
    """The first `SHEET` images, each above its caption.

    Args:
        images: uint8 (height, width, channels) each; of neither 3 nor 4, their first is shown in grey.
        captions: one an image, of a few short lines.
    """
    shown = list(zip(images, captions))[:SHEET]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    lines = max(caption.count("\n") + 1 for _, caption in shown)
    height = 1.5 + 0.2 * lines
    figure = Figure(figsize=(max(1.75 * columns, 4.2), height * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (image, caption) in zip(panels, shown):
        axes.imshow(image if image.shape[-1] in (3, 4) else image[..., 0], cmap="gray", vmin=0, vmax=255)
        # Below the image, where the layout keeps room for a title.
        axes.set_title(caption, fontsize=9, y=0, pad=-4, verticalalignment="top", parse_math=False)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
