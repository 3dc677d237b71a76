"""Saves the state of a training, so that a killed run resumes with the same bits."""

import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kapp.errors import KappError
from kapp.fileio import atomic_file
from kapp.run_folder import Run


class ResumeCheckpoint(keras.callbacks.Callback):
    """Saves two files after each epoch. The checkpoint has the whole state: the network with its
    random-number states, which `.weights.h5` omits, and the optimizer. `model.keras` has the network alone,
    and is written where its validation accuracy is the best so far.

    Args:
        run: the run folder.
        selects: False writes `model.keras` after each epoch, whatever its validation accuracy.
    """

    def __init__(self, run: Run, selects: bool = True):
        super().__init__()
        self._run, self._selects = run, selects

    def restore(self, learner: Any) -> int:
        """Restore the state of `learner` from the checkpoint, where there is one.

        Returns:
            How many epochs are complete.

        Raises:
            KappError: the checkpoint is damaged, or belongs to another network.
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
            raise KappError(f"{path} is damaged ({error}). Start again with --overwrite.") from error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        best = max((row["val_accuracy"] for row in self._run.metrics_rows()[:epoch]), default=-1.0)
        if logs["val_accuracy"] > best or not self._selects:
            with atomic_file(self._run.model_file) as partial:
                self.model.network.save(partial)
        with atomic_file(self._run.checkpoint_file) as partial:
            values = {name: keras.ops.convert_to_numpy(variable) for name, variable in _state(self.model)}
            np.savez(partial, epochs=epoch + 1, **values)


def _state(learner: Any) -> Iterator[tuple[str, keras.Variable]]:
    for owner in ("network", "optimizer"):
        for i, variable in enumerate(getattr(learner, owner).variables):
            yield f"{owner}{i}", variable
