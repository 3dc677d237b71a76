"""Data sets by name: images, labels and seeded splits. Importing this package imports no Keras.

Its modules are imported when they are first used, since NumPy takes 0.15 s that `--help` does not need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kapp.data import sources, validation_overlap
    from kapp.data.dataset import Dataset, Split, classes_match, load
    from kapp.data.sampling import Augmentation

__all__ = ["Augmentation", "Dataset", "Split", "classes_match", "load", "sources", "validation_overlap"]
_MODULES = {"Augmentation": "sampling"} | dict.fromkeys(
    ("Dataset", "Split", "classes_match", "load"), "dataset"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _MODULES:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
