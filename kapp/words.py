"""How people say it."""

import sys
import time


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Countdown:
    """Says how many are done and what is left: on a terminal twice a second, else twice a minute.

    Args:
        title: starts every line.
        count, things: how many of what.
    """

    def __init__(self, title: str, count: int, things: str):
        self._title, self._count, self._things = title, count, things
        self._start = self._said = time.perf_counter()
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        now = time.perf_counter()
        last = done == self._count
        if self._terminal and last:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        elif now - self._said > (0.5 if self._terminal else 30) and not last:
            self._said = now
            left = duration((now - self._start) / done * (self._count - done))
            start, end = ("\r\033[K", "") if self._terminal else ("", "\n")
            line = f"{self._title}  {done:,} of {self._count:,} {self._things}, {left} left"
            print(f"{start}{line}", end=end, file=sys.stderr, flush=True)
