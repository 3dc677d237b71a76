"""A figure that a paper prints, as data."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PublishedFigure:
    """What a figure draws.

    Args:
        number: in its paper.
        caption: as printed.
        quantity: test_accuracy: a bar for each row; loss or accuracy: a panel for each row, with its curves
            over the epochs.
        rows: names of rows of the paper's tables, from left to right.
    """

    number: str
    caption: str
    quantity: Literal["test_accuracy", "loss", "accuracy"]
    rows: tuple[str, ...]
