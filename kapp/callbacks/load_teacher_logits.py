"""Loads cached teacher logits before the steps that need them."""

from typing import Any

import keras
import numpy as np

from kapp.data import Augmentation, pipelines


class LoadTeacherLogits(keras.callbacks.Callback):
    """Loads the teacher logits of each epoch plan before its first step, and those of the validation images
    before the first epoch. Logits that are missing in the cache are computed then.

    Args:
        teacher: a `kapp.training.teacher_cache.CachedTeacher`.
        num_samples: of the training images, all of them.
        batch_size, seed, augmentation: as for `kapp.data.pipelines.train_batches`.
        steps: `steps_per_epoch` of `fit`, which need not be those of an epoch plan.
        eval_samples: the samples of `validation_data`, where there is any.
    """

    def __init__(
        self,
        teacher: Any,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        augmentation: Augmentation,
        steps: int,
        eval_samples: np.ndarray | None = None,
    ):
        super().__init__()
        self._teacher, self._seed, self._augmentation = teacher, seed, augmentation
        self._plan_steps, self._batch_size, self._steps = num_samples // batch_size, batch_size, steps
        self._eval_samples = eval_samples
        self._loaded = -1

    def on_train_begin(self, logs: Any = None) -> None:
        if self._eval_samples is not None:
            batch = pipelines.index_batch(self._eval_samples, self._augmentation)
            self._teacher.load(self.model, **batch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._first_step = epoch * self._steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        epoch = (self._first_step + batch) // self._plan_steps
        if epoch != self._loaded:
            self._teacher.load_epoch(self.model, self._seed, epoch, self._plan_steps * self._batch_size)
            self._loaded = epoch
