"""Delays Ctrl-C in a training to the end of the batch, so that it is never lost.

A KeyboardInterrupt that is raised inside another library's callback can be swallowed there. So the signal is
only recorded, and `check` raises it at a safe moment. The second Ctrl-C ends the process at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # of a process that Ctrl-C ended
_is_requested = False


@contextmanager
def deferred() -> Iterator[None]:
    """Within the block Ctrl-C is raised by `check`, and at the latest when the block ends.

    It changes nothing in other threads than the main one, which alone handles signals, or where Ctrl-C is
    ignored.
    """
    global _is_requested
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _is_requested = False
    signal.signal(signal.SIGINT, _request)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        check()


def check() -> None:
    """Raise the Ctrl-C that was pressed in a block of `deferred`.

    Raises:
        KeyboardInterrupt: it was.
    """
    global _is_requested
    if _is_requested:
        _is_requested = False
        raise KeyboardInterrupt


def _request(number: int, frame: FrameType | None) -> None:
    global _is_requested
    if _is_requested:
        os.write(2, b"\nkapp: interrupted.\n")
        os._exit(STATUS)
    _is_requested = True
    os.write(2, b"\nkapp: stops after this batch; Ctrl-C again stops at once.\n")
