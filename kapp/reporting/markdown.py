"""The blocks that reports are built from, and the only writer of Markdown.

Headings, cells and captions are plain text, which the writer escapes. Paragraphs and lists are Markdown:
names in them, which strangers may have chosen, go through `escape`, `code` or `link`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from kapp.progress import printable

# What starts a link, code, emphasis, HTML or an entity anywhere, or a heading, quote or list in a line.
SPECIAL = re.compile(
    r"[\\`*\[\]|]|~~|<(?=[A-Za-z/!?])|&(?=#?\w+;)|^(?:[#>]|[-+=](?=\s|[-=]|$))", re.MULTILINE
)


class Markdown(str):
    """Text that is Markdown already, in a cell."""


def escape(text: str) -> str:
    r"""Returns plain `text` as Markdown of one line that shows it.

    >>> print(escape("# a [b](javascript:c) <script>"))
    \# a \[b\](javascript:c) \<script>
    """
    return SPECIAL.sub(r"\\\g<0>", printable(" ".join(text.splitlines())))


def code(text: str) -> str:
    """Returns plain `text` as a code span."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{printable(' '.join(text.splitlines()))}{space}{fence}"


def link(text: str, path: str) -> str:
    """Returns a link with plain `text` to the file `path`, relative to the report."""
    return f"[{escape(text)}]({quote(path)})"


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
        rows: column names to cells, the same columns in each row. Cells are plain text unless they are of the
            type `Markdown`.
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
            return f"{'#' * level} {escape(text)}"
        case Paragraph(text):
            return text
        case Table(rows):
            return _table(rows)
        case Figure(path, caption):
            return f"![{escape(caption)}]({quote(path)})"
        case BulletList(items):
            return "\n".join(f"- {item}" for item in items)
        case Code(text, language):
            return f"```{language}\n{text}\n```"


def _table(rows: Sequence[Mapping[str, str | int]]) -> str:
    columns = []
    for name in rows[0] if rows else ():
        cells = [row[name] for row in rows]
        text = [cell if isinstance(cell, Markdown) else escape(str(cell)) for cell in (name, *cells)]
        width = max(3, *map(len, text))
        if all(isinstance(cell, int) for cell in cells):
            columns += [[text[0].rjust(width), "-" * (width - 1) + ":", *(t.rjust(width) for t in text[1:])]]
        else:
            columns += [[text[0].ljust(width), "-" * width, *(t.ljust(width) for t in text[1:])]]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns))
