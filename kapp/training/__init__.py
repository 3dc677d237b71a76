"""Training: the Learner and the Distiller, what they minimise, and what every recipe calls.

Importing this package imports no Keras; using a name of it does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kapp.training import objectives
    from kapp.training.answers import TeacherAnswers
    from kapp.training.distiller import Distiller
    from kapp.training.learner import Learner

__all__ = ["Distiller", "Learner", "TeacherAnswers", "objectives"]
_HOMES = {"Distiller": "distiller", "Learner": "learner", "TeacherAnswers": "answers"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"kapp.training.{_HOMES[name]}"), name)
    if name == "objectives":
        return import_module("kapp.training.objectives")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
