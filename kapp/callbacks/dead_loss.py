"""Stops a training whose network has died."""

import math
from typing import Any

import keras
import numpy as np

from kapp.errors import Untrainable
from kapp.runs import Run


class DeadLoss(keras.callbacks.Callback):
    """Raises Untrainable when the network answers all of a few images alike at the end of an epoch: its ReLUs
    are 0 for every image and pass no gradient, and the loss stays what guessing costs (paper A, appendix B:
    "always make the loss be constant"). What earlier epochs left in `run` stays as it is.

    Args:
        images: a batch of them as the model takes it, unlike each other.
    """

    def __init__(self, run: Run, images: Any):
        super().__init__()
        self._run, self._images = run, images

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logits = keras.ops.convert_to_numpy(self.model.call(self._images, training=False))
        spread = np.ptp(logits, axis=0).max()
        if spread > 1e-6 * max(1.0, np.abs(logits).max()):
            return
        classes = logits.shape[1]
        kept = (
            f"; the best network so far is {self._run.model_file}" if self._run.model_file.is_file() else ""
        )
        raise Untrainable(
            f"the network died in epoch {epoch + 1}: it answers every image alike, and the loss stays at "
            f"{logs['loss']:.3f} (guessing among {classes} classes costs {math.log(classes):.3f}){kept}. "
            "Try a lower --learning-rate, or --schedule cosine with --warmup-epochs."
        )
