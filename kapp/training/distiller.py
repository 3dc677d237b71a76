"""The Distiller: a Learner whose student learns from teachers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from kapp.data.epochs import Views
from kapp.errors import WrongValue
from kapp.training import objectives, steps
from kapp.training.learner import Batch, Learner
from kapp.training.objectives import Objective, cross_entropy
from kapp.training.parallel import shared
from kapp.training.teachers import Teachers, classes

if TYPE_CHECKING:
    from kapp.training.answers import TeacherAnswers


class Distiller(Learner):
    """Trains `student` to match teachers, through `compile` and `fit`: live ones, asked in every step, or
    stored answers, which take no teacher at all.

    Args:
        student: the network that learns, in place; images to logits (n, classes).
        teachers: one network or several, images to logits (n, classes) or to probabilities. They
            are copied: the caller's stay as they are.
        dataset, views: as for `Learner`.
        ensemble: what is averaged over several teachers, "logits" (Urban et al. 2016) or
            "probabilities".
        answers: in place of all these but the student. Batches of indices only; what they show must have been
            given to `look_up` before, as `kapp.callbacks.EpochAnswers` does.

    Raises:
        WrongValue: no teacher, one that isn't functional, another number of classes, an unknown `ensemble`;
            or teachers and answers.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: keras.Model | Sequence[keras.Model] = (),
        dataset: Any = None,
        views: Views | None = None,
        ensemble: str = "logits",
        *,
        answers: "TeacherAnswers | None" = None,
    ):
        if answers is None:
            super().__init__(student, dataset, views)
            self.teach = Teachers(teachers, ensemble)
            _check_classes(self.teach.classes, f"teacher {self.teach.networks[0].name!r}", student)
        else:
            if teachers or dataset or views:
                raise WrongValue(
                    "a Distiller with answers takes no teachers, data set or views: they have theirs."
                )
            super().__init__(student, answers.dataset, answers.views)
            _check_classes(answers.classes, "the teacher of the answers", student)
            # A row an image, that of the view in which it is shown next: an epoch shows it once. Where none
            # was looked up the loss is NaN.
            self._shown = np.full((len(answers.dataset.images), answers.classes), np.nan, np.float16)
            self.shown = keras.Variable(
                self._shown, dtype="float16", trainable=False, autocast=False, name="shown"
            )
        self.answers = answers
        self.agreement = keras.metrics.Mean(name="agreement")

    @property
    def teachers(self) -> tuple[keras.Model, ...]:
        """The copies that are asked live."""
        return self.teach.networks if self.answers is None else ()

    def compile(
        self,
        optimizer: Any = "adam",
        objective: str | Objective = "prob_mse",
        temperature: float = 4.0,
        label_weight: float = 0.0,
        **settings: Any,  # run_eagerly, jit_compile
    ) -> None:
        """Args:
            objective: prob_mse (paper D), logit_mse, kl, or a function of (teacher_logits,
                student_logits) that returns one value a sample.
            temperature: of kl.
            label_weight: share of the labels' cross-entropy in the loss, 0 to 1; 0 is paper D's pure
                mimicry.
            optimizer, settings: as for `Learner.compile`.

        Raises:
            WrongValue: `label_weight` outside 0 to 1, or a temperature not above 0.
        """
        if not 0 <= label_weight <= 1:
            raise WrongValue(f"label_weight is {label_weight}: it must be from 0 to 1.")
        if not temperature > 0:
            raise WrongValue(f"temperature is {temperature}: it must be above 0.")
        self.objective = objectives.named(objective, temperature) if isinstance(objective, str) else objective
        self.label_weight = label_weight
        super().compile(optimizer, **settings)

    @property
    def metrics(self) -> list[keras.Metric]:
        return [*super().metrics, self.agreement]

    def look_up(self, sample: np.ndarray, view: np.ndarray) -> None:
        """Have the stored answers to these views ready for the steps to come; those to other images stay.

        Args:
            sample, view: integers (n,), each sample once.

        Raises:
            Failure: as `TeacherAnswers.of` does.
        """
        assert self.answers is not None
        self._shown[sample] = self.answers.of(sample, view)
        steps.assign(self, self.shown, self._shown)

    def prepare(self, data: Any) -> Batch:
        batch = super().prepare(data)
        if self.answers is None:
            return batch._replace(teacher_logits=self.teach(batch.given))
        x, *_ = keras.utils.unpack_x_y_sample_weight(data)
        if not self.is_indices(x):
            raise WrongValue(
                "stored answers are those to the data set's own images: feed indices (kapp.data.feeds), "
                "or give the Distiller its teachers to learn from images of yours."
            )
        answers = ops.take(self.shown, shared(x)["sample"], axis=0)
        return batch._replace(teacher_logits=ops.cast(answers, "float32"))

    def sample_losses(self, batch: Batch, logits: Any) -> Any:
        losses = self.objective(batch.teacher_logits, logits)
        if self.label_weight == 0:
            return losses
        hard = cross_entropy(batch.labels, logits)
        return (1 - self.label_weight) * losses + self.label_weight * hard

    def record(self, batch: Batch, logits: Any, loss: Any) -> None:
        super().record(batch, logits, loss)
        agree = ops.equal(ops.argmax(batch.teacher_logits, axis=-1), ops.argmax(logits, axis=-1))
        self.agreement.update_state(ops.cast(agree, "float32"), sample_weight=batch.sample_weight)


def _check_classes(known: int, teacher: str, student: keras.Model) -> None:
    if classes(student, "student") != known:
        raise WrongValue(
            f"{teacher} knows {known} classes, student {student.name!r} {classes(student, 'student')}: "
            "they must be the same."
        )
