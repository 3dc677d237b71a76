"""Several processes that train one network together, on one machine or several. The first keeps the run
folder; the others read it, so that they all must see it."""

import os
import re
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from kapp.errors import Failure, WrongValue


class Place(NamedTuple):
    this: int = 0
    of: int = 1


_place = Place()


def parse(text: str) -> Place:
    """K/N: the K-th, counted from 0, of N processes.

    Raises:
        WrongValue: it isn't of that form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    place = Place(*map(int, match.groups())) if match else Place()
    if not match or place.this >= place.of:
        raise WrongValue(f"--process is {text}: it must be K/N with K from 0 to N - 1, such as 0/2 and 1/2.")
    return place


def join(coordinator: str, place: Place) -> None:
    """Meet the other processes at `coordinator`, HOST:PORT of the first; before Keras is imported."""
    global _place
    if place.of == 1 or _place.of > 1:
        return
    import jax

    jax.distributed.initialize(coordinator, place.of, place.this)
    _place = place
    if not is_first():  # the first one speaks for all
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def is_first() -> bool:
    """Whether this is the process that keeps the run and speaks."""
    return _place.this == 0


def wait() -> None:
    """Go on when all processes are here."""
    if _place.of > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("kapp")


def first_does(action: Callable[[], object]) -> None:
    """Do `action` in the first process; all go on when it is done.

    Raises:
        Failure: it raised there, what it did.
    """
    all_do(action if is_first() else lambda: None)


def all_do(action: Callable[[], object]) -> None:
    """Do `action` in every process; all go on when it is done everywhere.

    Raises:
        Failure: it raised in another one, which says so itself.
    """
    raised = None
    try:
        action()
    except Exception as error:
        raised = error
    if _place.of > 1:
        import numpy as np
        from jax.experimental import multihost_utils

        failed = multihost_utils.process_allgather(np.array(raised is not None))
        if raised is None and failed.any():
            raise Failure(f"process {int(failed.argmax())} of this training can't go on, and says why.")
    if raised is not None:
        raise raised


def leave(status: int) -> NoReturn:
    """End this process, without waiting for others that may wait for it."""
    if _place.of == 1:
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
