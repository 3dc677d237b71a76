"""Progress lines and readable durations."""

import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from kapp import interrupt

CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories; Cf can reverse the text after it


def duration(seconds: float) -> str:
    """Returns a duration in words.

    >>> duration(45), duration(720), duration(11100)
    ('45 s', '12 min', '3 h 05 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def printable(text: str) -> str:
    r"""Returns `text` with its control characters and undecodable bytes as escapes, but for ends of lines.

    A name that a stranger chose can't clear a terminal, or move its cursor, after that.

    >>> print(printable("a\x1b[2J"))
    a\x1b[2J
    """
    return "".join(
        ascii(each)[1:-1] if unicodedata.category(each) in CONTROL and each not in "\n\t" else each
        for each in text
    )


class PrintableOutput:
    """A text stream that writes `printable` text to another one."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


BEAT_SECONDS = 0.5  # between two touches
_heartbeat: Path | None = None  # the file that `beat` touches
_beaten = 0.0  # when it did


@contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Within the block `beat` touches the file `path`, by which other processes see that this one works."""
    global _heartbeat
    before, _heartbeat = _heartbeat, path
    try:
        yield
    finally:
        _heartbeat = before


def beat() -> None:
    """Touch the file of `heartbeat`, at most twice per second."""
    global _beaten
    now = time.monotonic()
    if _heartbeat is not None and now - _beaten > BEAT_SECONDS:
        _beaten = now
        with suppress(OSError):
            _heartbeat.touch()


class ProgressLine:
    """Prints how many of `count` items are done, and the remaining time, to stderr.

    On a terminal, one line changes twice per second and disappears at the end. Elsewhere, such as in a log
    file, there are two lines per minute. Call it with the number of items that are done. Ctrl-C in a training
    is raised here, too.

    Args:
        title: string, the start of the line.
        count: integer, the number of items.
        unit: string, the plural name of the items.
    """

    def __init__(self, title: str, count: int, unit: str):
        self._title, self._count, self._unit = printable(title), count, unit
        self._started = self._printed = time.perf_counter()
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        interrupt.check()
        beat()
        now = time.perf_counter()
        if done == self._count:
            if self._terminal:
                print("\r\033[K", end="", file=sys.stderr, flush=True)
        elif now - self._printed > (0.5 if self._terminal else 30):
            self._printed = now
            left = duration((now - self._started) / done * (self._count - done))
            start, end = ("\r\033[K", "") if self._terminal else ("", "\n")
            line = f"{self._title}  {done:,} of {self._count:,} {self._unit}, {left} left"
            print(f"{start}{line}", end=end, file=sys.stderr, flush=True)
