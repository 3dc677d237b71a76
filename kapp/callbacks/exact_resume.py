"""Lets a killed run go on as if it hadn't been."""

import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kapp.errors import Failure
from kapp.files import replacing
from kapp.runs import Run


class ExactResume(keras.callbacks.Callback):
    """After each epoch keeps the whole state of a training in one file: the network with its
    random-number states, which `.weights.h5` leaves out, and the optimiser; and the network alone, in
    `model.keras`, where its validation accuracy is the best so far.

    Args:
        selects: False keeps the latest network instead of the best.
    """

    def __init__(self, run: Run, selects: bool = True):
        super().__init__()
        self._run, self._selects = run, selects

    def restore(self, learner: Any) -> int:
        """Bring `learner` to the state that the run's checkpoint holds, if there is one.

        Returns:
            How many epochs are done.

        Raises:
            Failure: the checkpoint is damaged, or that of another network.
        """
        path = self._run.checkpoint_file
        learner.optimizer.build(learner.trainable_variables)
        if not path.is_file():
            return 0
        try:
            with np.load(path, allow_pickle=False) as file:
                for name, variable in _state(learner):
                    variable.assign(file[name])
                return int(file["epochs"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise Failure(f"{path} is damaged ({error}). Start anew with --overwrite.") from error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        best_before = max((row["val_accuracy"] for row in self._run.epochs()[:epoch]), default=-1.0)
        if logs["val_accuracy"] > best_before or not self._selects:
            with replacing(self._run.model_file) as partial:
                self.model.network.save(partial)
        with replacing(self._run.checkpoint_file) as partial:
            values = {name: keras.ops.convert_to_numpy(variable) for name, variable in _state(self.model)}
            np.savez(partial, epochs=epoch + 1, **values)


def _state(learner: Any) -> Iterator[tuple[str, keras.Variable]]:
    for owner in ("network", "optimizer"):
        for i, variable in enumerate(getattr(learner, owner).variables):
            yield f"{owner}{i}", variable
