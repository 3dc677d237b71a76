"""The two ways in which kapp says no; both end a command with one line and no traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class WrongValue(ValueError):
    """A value refused before the work begins; the command ends with exit status 2."""


class Failure(RuntimeError):
    """Something that went wrong later (network, damaged file, disk); exit status 1."""


class Untrainable(Failure):
    """A training that can't go on with its settings: its loss isn't finite, or its network died. A sweep
    learns from it and goes on."""


def unknown(what: str, received: str, accepted: Iterable[str], more: str = "") -> WrongValue:
    """The refusal of a name: what was received, the nearest correct spelling, what is accepted."""
    accepted = list(accepted)
    near = get_close_matches(received, accepted, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return WrongValue(f"unknown {what} {received!r}.{hint} Accepted: {', '.join(accepted)}{more}.")
