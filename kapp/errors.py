"""The errors that a user may see; each ends a command with one line and no traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(ValueError):
    """A value refused before the work starts; exit status 2."""


class KappError(RuntimeError):
    """Something that went wrong later (network, damaged file, disk); exit status 1."""


class TrainingFailed(KappError):
    """A training that can't continue with its settings: its loss isn't finite, or its output is constant.

    A sweep counts it as a failed trial and continues.
    """


def undecodable(name: str) -> str:
    """The message for a name that isn't valid UTF-8."""
    return f"{ascii(name)[:300]} is a name that can't be decoded. Rename the file or the folder."


def unknown(what: str, received: str, accepted: Iterable[str], more: str = "") -> ConfigError:
    """The error for an unknown name: what was received, the nearest correct spelling, what is accepted."""
    accepted = list(accepted)
    near = get_close_matches(received, accepted, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {what} {received!r}.{hint} Accepted: {', '.join(accepted)}{more}.")
