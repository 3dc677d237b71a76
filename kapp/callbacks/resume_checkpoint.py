"""Saves the state of a training, so that a killed run resumes with the same bits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kapp import distributed
from kapp.errors import KappError
from kapp.fileio import atomic_file, checksum, is_file
from kapp.run_folder import START_AGAIN, Checkpoint, Run


class ResumeCheckpoint(keras.callbacks.Callback):
    """Saves two files after each epoch. The checkpoint has the whole state: the network with its
    random-number states, which `.weights.h5` omits, and the optimizer; the metrics so far, and the checksum
    of `model.keras`. That file has the network alone, and is written where its validation accuracy is the
    best so far. The checkpoint before is kept, too.

    Args:
        run: the run folder.
        selects: False writes `model.keras` after each epoch, whatever its validation accuracy.
    """

    def __init__(self, run: Run, selects: bool = True):
        super().__init__()
        self._run, self._selects = run, selects
        self._rows: list[Mapping[str, float]] = []  # of the metrics so far
        self._model_sha256 = ""

    def restore(self, learner: Any) -> int:
        """Restore the state of `learner` and `metrics.csv` from the checkpoint, where there is one; from the
        one before, where that is damaged.

        Returns:
            How many epochs are complete.

        Raises:
            KappError: all checkpoints are damaged, or belong to another network.
        """
        learner.optimizer.build(learner.trainable_variables)
        damaged: list[KappError] = []
        for path in filter(is_file, self._run.checkpoint_files):
            try:
                checkpoint = self._run.read_checkpoint(path)
                _assign(learner, checkpoint.variables, f"{path} is damaged")
            except KappError as error:
                damaged += [error]
                continue
            epochs = len(checkpoint.metrics)
            distributed.barrier()  # all have read it
            if distributed.is_primary():
                if damaged:
                    reason = str(damaged[0]).removesuffix(START_AGAIN)
                    print(f"{reason}Resuming after epoch {epochs}, from {path.name}.", flush=True)
                    self._run.checkpoint_files[0].unlink()
                self._restore_metrics(checkpoint.metrics)
            self._rows, self._model_sha256 = list(checkpoint.metrics), checkpoint.model_sha256
            return epochs
        if damaged:
            raise damaged[0]
        return 0

    def _restore_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `rows` to `metrics.csv` unless it begins with them."""
        try:
            stored = self._run.metrics_rows()[: len(rows)]
        except KappError:
            stored = []
        if json.dumps(stored) != json.dumps(rows):
            print(f"{self._run.metrics_file} differs from the checkpoint: its rows are restored.", flush=True)
            self._run.write_metrics(rows)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        best = max((row["val_accuracy"] for row in self._rows), default=-1.0)
        if logs["val_accuracy"] > best or not self._selects:
            with atomic_file(self._run.model_file) as partial:
                self.model.scored_network.save(partial)
            self._model_sha256 = checksum(self._run.model_file)
        self._rows += [self._run.metrics_rows()[epoch]]
        values = {name: keras.ops.convert_to_numpy(variable) for name, variable in _state(self.model)}
        self._run.write_checkpoint(Checkpoint(self._rows, self._model_sha256, values))


def _assign(learner: Any, values: Mapping[str, np.ndarray], message: str) -> None:
    """Set the variables of `learner`, all or none.

    Raises:
        KappError: `values` are of another network.
    """
    state = dict(_state(learner))
    if {name: tuple(variable.shape) for name, variable in state.items()} != {
        name: value.shape for name, value in values.items()
    }:
        raise KappError(f"{message} (it is of another network). {START_AGAIN}")
    for name, variable in state.items():
        variable.assign(values[name])


def _state(learner: Any) -> Iterator[tuple[str, keras.Variable]]:
    for owner in ("network", "averaged", "optimizer"):
        for i, variable in enumerate(getattr(getattr(learner, owner), "variables", ())):
            yield f"{owner}{i}", variable
