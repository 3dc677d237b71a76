"""Training: the Learner, the Distiller, their losses, and the training loop of the recipes.

Importing this package imports no Keras; using one of its names does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kapp.training import distillation_losses
    from kapp.training.distiller import Distiller
    from kapp.training.learner import Learner
    from kapp.training.teacher_cache import TeacherLogits
    from kapp.training.teacher_ensemble import TeacherEnsemble

__all__ = ["Distiller", "Learner", "TeacherEnsemble", "TeacherLogits", "distillation_losses"]
_MODULES = {
    "Distiller": "distiller",
    "Learner": "learner",
    "TeacherEnsemble": "teacher_ensemble",
    "TeacherLogits": "teacher_cache",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"kapp.training.{_MODULES[name]}"), name)
    if name == "distillation_losses":
        return import_module("kapp.training.distillation_losses")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
