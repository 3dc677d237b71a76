"""Saves the state of a training, so that a killed run resumes with the same bits."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kapp import distributed
from kapp.callbacks.throughput import Throughput
from kapp.errors import KappError
from kapp.fileio import atomic_file, checksum, is_file
from kapp.run_folder import START_AGAIN, BegunRow, Checkpoint, Run

SAVE_MINUTES = 5.0


class ResumeCheckpoint(keras.callbacks.Callback):
    """Saves two files after each epoch. The checkpoint has the whole state: the network with its
    random-number states, which `.weights.h5` omits, and the optimizer; the metrics so far, and the checksum
    of `model.keras`. That file has the network alone, and is written where its validation accuracy is the
    best so far. The checkpoint and the network before are kept, too. Within a long epoch a checkpoint is
    saved every few minutes.

    Args:
        run: the run folder.
        throughput: the callback that measures each epoch.
        steps: per epoch.
        selects: False writes `model.keras` after each epoch, whatever its validation accuracy.
        save_minutes: of training, between two checkpoints within an epoch.
    """

    def __init__(
        self,
        run: Run,
        throughput: Throughput,
        steps: int,
        selects: bool = True,
        save_minutes: float = SAVE_MINUTES,
    ):
        super().__init__()
        self._run, self._throughput, self._steps = run, throughput, steps
        self._selects, self._save_seconds = selects, 60 * save_minutes
        self._rows: list[Mapping[str, float]] = []  # of the metrics so far
        self._model_sha256 = ""
        self._restored: Mapping[str, np.ndarray] = {}
        self.begun_steps = 0  # of the next epoch, in the checkpoint that was restored

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
                if checkpoint.model_sha256:
                    self._run.restore_model(checkpoint.model_sha256)
            self._rows, self._model_sha256 = list(checkpoint.metrics), checkpoint.model_sha256
            self._restored = checkpoint.variables
            if checkpoint.begun is not None:
                self.begun_steps = checkpoint.begun.steps
                self._throughput.resume(checkpoint.begun)
            return epochs
        if damaged:
            raise damaged[0]
        return 0

    def restore_running_metrics(self, learner: Any) -> None:
        """Set the running metrics of `learner`, which Keras resets when an epoch begins, to those of the
        checkpoint."""
        for name, variable in _state(learner):
            if name.startswith("metrics"):
                variable.assign(self._restored[name])

    def _restore_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `rows` to `metrics.csv` unless it begins with them."""
        try:
            stored = self._run.metrics_rows()[: len(rows)]
        except KappError:
            stored = []
        if json.dumps(stored) != json.dumps(rows):
            print(f"{self._run.metrics_file} differs from the checkpoint: its rows are restored.", flush=True)
            self._run.write_metrics(rows)

    def on_train_begin(self, logs: Any = None) -> None:
        self._saved = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        is_due = time.perf_counter() - self._saved >= self._save_seconds
        if is_due and batch + 1 < self._steps:  # else the end of the epoch follows
            self.model.sync_variables()
            self._save(self._throughput.begun(batch + 1))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        best = max((row["val_accuracy"] for row in self._rows), default=-1.0)
        if logs["val_accuracy"] > best or not self._selects:
            self._run.keep_model()
            with atomic_file(self._run.model_file) as partial:
                self.model.scored_network.save(partial)
            self._model_sha256 = checksum(self._run.model_file)
        self._rows += [self._run.metrics_rows()[epoch]]
        self._save()

    def _save(self, begun: BegunRow | None = None) -> None:
        values = {name: keras.ops.convert_to_numpy(variable) for name, variable in _state(self.model)}
        self._run.write_checkpoint(Checkpoint(self._rows, self._model_sha256, values, begun))
        self._saved = time.perf_counter()


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
    for i, variable in enumerate(learner.metrics_variables):
        yield f"metrics{i}", variable
