"""Keras layers: pooling by a p-norm, and Keras's own layers with faster training steps.

Importing this package imports no Keras; using a name of it does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kapp.layers.p_norm_pooling import PNormPooling2D

__all__ = ["PNormPooling2D"]


def __getattr__(name: str) -> Any:
    if name == "PNormPooling2D":
        from kapp.layers.p_norm_pooling import PNormPooling2D

        return PNormPooling2D
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
