"""Stops a training whose network predicts the same for every image, and reports one that always predicts the
same class."""

import math
import sys
from typing import Any

import keras
import numpy as np

from kapp.callbacks.failure import training_failed
from kapp.run_folder import Run

ONE_CLASS_EPOCHS = 5  # after which it is reported; in the first epochs many networks predict one class


class StopOnConstantOutput(keras.callbacks.Callback):
    """Raises TrainingFailed at the end of an epoch in which the network predicts the same for a few different
    images: its ReLUs are 0 for every image and pass no gradient, and the loss stays that of guessing (Hu
    2018, appendix B: "always make the loss be constant"). The files of earlier epochs stay.

    Outputs that differ, but have the same largest class for five epochs, are reported once: the training may
    still recover. The squared error of probabilities has hardly a gradient in this state.

    Args:
        run: the run folder.
        images: a batch of different images, as the model takes it.
    """

    def __init__(self, run: Run, images: Any):
        super().__init__()
        self._run, self._images = run, images
        self._one_class_epochs = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logits = keras.ops.convert_to_numpy(self.model.call(self._images, training=False))
        spread = np.ptp(logits, axis=0).max()
        if spread > 1e-6 * max(1.0, np.abs(logits).max()):
            self._report_one_class(epoch, logits)
            return
        classes = logits.shape[1]
        raise training_failed(
            f"training stopped in epoch {epoch + 1}: the model predicts the same output for every image "
            f"(dead ReLUs), and the loss stays at {logs['loss']:.3f} (guessing among {classes} classes: "
            f"{math.log(classes):.3f})",
            self._run,
        )

    def _report_one_class(self, epoch: int, logits: np.ndarray) -> None:
        predicted = np.unique(logits.argmax(axis=-1))
        self._one_class_epochs = self._one_class_epochs + 1 if len(predicted) == 1 else 0
        if self._one_class_epochs == ONE_CLASS_EPOCHS:
            print(
                f"epoch {epoch + 1}: for {ONE_CLASS_EPOCHS} epochs the model has predicted class "
                f"{predicted[0]} for all of {len(logits)} images. If this stays so, start again with a lower "
                "--learning-rate or, with a teacher, --distillation-loss kl.",
                file=sys.stderr,
                flush=True,
            )
