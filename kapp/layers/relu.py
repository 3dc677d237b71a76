"""ReLU that batch normalization can compute."""

from typing import Any

import keras

from kapp.keras_internals import saved_as_keras
from kapp.layers.batch_normalization import BatchNormalization


@saved_as_keras
class ReLU(keras.layers.ReLU):
    """Same results and saved format as `keras.layers.ReLU`; nothing to compute after fused normalization.

    Args:
        batch_norm: the `BatchNormalization(fuse_relu=True)` layer that computes this layer's inputs. It isn't
            saved.
        **kwargs: as for `keras.layers.Layer`.

    Example:

    >>> batch_norm = BatchNormalization(fuse_relu=True)
    >>> relu = ReLU(batch_norm=batch_norm)
    >>> float(keras.ops.min(relu(batch_norm(keras.random.normal((32, 4)), training=True), training=True)))
    0.0
    """

    def __init__(self, *, batch_norm: BatchNormalization | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        # The method and not the layer: Keras would save the layer's weights here, too.
        self._is_fused = batch_norm.computes_relu if batch_norm else None

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        fused = self._is_fused is not None and self._is_fused(inputs, training)
        return inputs if fused else super().call(inputs)
