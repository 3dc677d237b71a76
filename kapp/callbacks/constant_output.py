"""Stops a training whose network predicts the same for every image."""

import math
from typing import Any

import keras
import numpy as np

from kapp.callbacks.failure import training_failed
from kapp.run_folder import Run


class StopOnConstantOutput(keras.callbacks.Callback):
    """Raises TrainingFailed at the end of an epoch in which the network predicts the same for a few different
    images: its ReLUs are 0 for every image and pass no gradient, and the loss stays that of guessing (Hu
    2018, appendix B: "always make the loss be constant"). The files of earlier epochs stay.

    Args:
        run: the run folder.
        images: a batch of different images, as the model takes it.
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
        raise training_failed(
            f"training stopped in epoch {epoch + 1}: the model predicts the same output for every image "
            f"(dead ReLUs), and the loss stays at {logs['loss']:.3f} (guessing among {classes} classes: "
            f"{math.log(classes):.3f})",
            self._run,
        )
