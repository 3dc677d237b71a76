"""Distiller: a Learner whose network, the student, matches a teacher."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kapp.data.sampling import Augmentation
from kapp.errors import ConfigError
from kapp.papers.distillation import check_labels, check_standardized
from kapp.papers.distillation import distill_weight as resolve_weight
from kapp.training import distillation_losses
from kapp.training.distillation_losses import DistillationLoss
from kapp.training.learner import Batch, Learner
from kapp.training.teacher_cache import CachedTeacher, TeacherLogits
from kapp.training.teacher_ensemble import TeacherEnsemble, num_classes


class Distiller(Learner):
    """Trains a student to match one or several teachers through `compile` and `fit`.

    Args:
        teacher: one network or several, or a `TeacherEnsemble` of them, which compute their logits in every
            step; or `TeacherLogits`, which are read from disk: then call `fit` with `fit_callbacks`. A
            network maps images to logits (n, classes) or to probabilities. It is copied, and stays as it is.
        student: images (n, height, width, channels), 0 to 255, to logits (n, classes); trained in place.
        dataset, augmentation: as for `Learner`; those of `TeacherLogits` by default.

    Raises:
        ConfigError: teacher and student have other numbers of classes; the `TeacherLogits` are for another
            data set or augmentation; or as `TeacherEnsemble` does.

    Example:

    >>> import numpy as np
    >>> from kapp import models, training
    >>> teacher = models.build("4c-mp-3fc", classes=3, image_shape=(8, 8, 3))
    >>> student = models.build("8fc-3fc", classes=3, image_shape=(8, 8, 3))
    >>> distiller = training.Distiller(teacher=teacher, student=student)
    >>> distiller.compile("adam", distillation_loss="kl", temperature=2.0)
    >>> images, labels = np.zeros((6, 8, 8, 3), "uint8"), np.array([0, 1, 2, 0, 1, 2])
    >>> sorted(distiller.fit(images, labels, verbose=0).history)
    ['accuracy', 'agreement', 'loss']
    """

    def __init__(
        self,
        teacher: keras.Model | Sequence[keras.Model] | TeacherLogits,
        student: keras.Model,
        dataset: Any = None,
        augmentation: Augmentation | None = None,
    ):
        teacher_layer: TeacherEnsemble | CachedTeacher
        if isinstance(teacher, TeacherLogits):
            teacher_layer = CachedTeacher(teacher)
        else:
            teacher_layer = teacher if isinstance(teacher, TeacherEnsemble) else TeacherEnsemble(teacher)
        dataset, augmentation = teacher_layer.training_data(dataset, augmentation)
        super().__init__(student, dataset, augmentation)
        self.teacher = teacher_layer
        self.agreement = keras.metrics.Mean(name="agreement")
        teacher_classes, student_classes = teacher_layer.num_classes, num_classes(student, "student")
        if teacher_classes != student_classes:
            raise ConfigError(
                f"the teacher has {teacher_classes} classes, student {student.name!r} {student_classes}: "
                "they must be the same."
            )

    def compile(
        self,
        optimizer: Any = "adam",
        distillation_loss: str | DistillationLoss = "prob_mse",
        temperature: float | None = None,
        label_weight: float = 0.0,
        distill_weight: float | None = None,
        standardize_logits: bool = False,
        **settings: Any,  # run_eagerly, jit_compile, label_smoothing, ema
    ) -> None:
        """Configure the training.

        Args:
            distillation_loss: one of `distillation_losses.NAMES`, or a function of (labels, teacher_logits,
                student_logits) that returns one value per sample. The label of an image without one is -1;
                that of a mixed image is the label of the larger part.
            temperature: of kl, dkd, nkd and dist; the paper's by default.
            label_weight: the weight of the labels' cross-entropy in the loss, from 0 (Ratusznik et al.).
            distill_weight: the weight of the distillation loss, from 0. Default: 1 - `label_weight`.
            standardize_logits: give all logits the mean 0 and the standard deviation 1 before the
                distillation loss (Sun et al. 2024).
            optimizer, settings: as for `Learner.compile`.

        Raises:
            ConfigError: a weight or the temperature is out of range, or the name of the loss is unknown;
                the loss needs one label per image, and images are mixed or have no label; or logits of two
                classes are standardized.
        """
        if temperature is not None and not temperature > 0:
            raise ConfigError(f"temperature is {temperature}: it must be above 0.")
        self.distillation_loss = distillation_losses.get(distillation_loss, temperature, standardize_logits)
        if standardize_logits:
            check_standardized(self.teacher.num_classes)
        if isinstance(distillation_loss, str):
            check_labels(distillation_loss, self.augmentation.mixes, self.lacks_labels)
        self.distill_weight = resolve_weight(label_weight, distill_weight)
        self.label_weight = label_weight
        super().compile(optimizer, **settings)

    @property
    def metrics(self) -> list[keras.Metric]:
        return [*super().metrics, self.agreement]

    def preprocess_batch(self, data: Any) -> Batch:
        batch = super().preprocess_batch(data)
        x, *_ = keras.utils.unpack_x_y_sample_weight(data)
        return batch._replace(teacher_logits=self.teacher.logits(x, batch.inputs))

    def per_sample_loss(self, batch: Batch, logits: Any) -> Any:
        losses = self.distill_weight * self.distillation_loss(batch.labels, batch.teacher_logits, logits)
        if self.label_weight == 0:
            return losses
        return losses + self.label_weight * self.label_loss(batch, logits)

    def update_metrics(self, batch: Batch, logits: Any, loss: Any) -> None:
        super().update_metrics(batch, logits, loss)
        agree = ops.equal(ops.argmax(batch.teacher_logits, axis=-1), ops.argmax(logits, axis=-1))
        self.agreement.update_state(ops.cast(agree, "float32"), sample_weight=batch.sample_weight)

    def fit_callbacks(self, **settings: Any) -> list[keras.callbacks.Callback]:
        """The callbacks that the teacher needs in `fit`; the arguments are those of
        `Learner.fit_callbacks`."""
        return self.teacher.fit_callbacks(**settings)
