"""The blocks that reports are built from, and the only writer of Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the report's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of Markdown: plain text with links and `code`."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; a column of integers is aligned to the right.

    Args:
        rows: column names to cells, the same columns in each row.
    """

    rows: Sequence[Mapping[str, str | int]]


@dataclass(frozen=True)
class Figure:
    """An image file.

    Args:
        path: relative to the report.
        caption: the alternative text of the image.
    """

    path: str
    caption: str


@dataclass(frozen=True)
class BulletList:
    """A list of Markdown lines."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines of code or of a terminal."""

    text: str
    language: str = ""


Block = Heading | Paragraph | Table | Figure | BulletList | Code


def to_markdown(blocks: Iterable[Block]) -> str:
    """Returns `blocks` as GitHub's Markdown; empty tables and lists are left out.

    Example:

    >>> print(to_markdown([Heading("Scores", 1), Table([{"model": "a|b", "n": 3}])]), end="")
    # Scores
    <BLANKLINE>
    | model |   n |
    | ----- | --: |
    | a\\|b  |   3 |
    """
    return "\n\n".join(filter(None, map(_markdown, blocks))) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Table(rows):
            return _table(rows)
        case Figure(path, caption):
            return f"![{caption}]({path})"
        case BulletList(items):
            return "\n".join(f"- {item}" for item in items)
        case Code(text, language):
            return f"```{language}\n{text}\n```"


def _table(rows: Sequence[Mapping[str, str | int]]) -> str:
    columns = []
    for name in rows[0] if rows else ():
        cells = [row[name] for row in rows]
        text = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in (name, *cells)]
        width = max(3, *map(len, text))
        if all(isinstance(cell, int) for cell in cells):
            columns += [[text[0].rjust(width), "-" * (width - 1) + ":", *(t.rjust(width) for t in text[1:])]]
        else:
            columns += [[text[0].ljust(width), "-" * width, *(t.ljust(width) for t in text[1:])]]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns))
