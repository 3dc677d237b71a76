"""The Distiller: a Learner whose student learns from teachers."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kapp.data.epochs import Views
from kapp.errors import WrongValue
from kapp.models.saved import answers_in_probabilities
from kapp.training import objectives
from kapp.training.learner import Batch, Learner
from kapp.training.objectives import Objective, cross_entropy

SMALLEST = 1e-7  # probability of which a logarithm is taken


class Distiller(Learner):
    """Trains `student` to match `teachers`, through `compile` and `fit`.

    Args:
        student: the network that learns, in place; images to logits (n, classes).
        teachers: one network or several, images to logits (n, classes) or to probabilities. They
            are copied: the caller's stay as they are.
        dataset, views: as for `Learner`.
        ensemble: what is averaged over several teachers, "logits" (Urban et al. 2016) or
            "probabilities".

    Raises:
        WrongValue: no teacher, one that isn't functional, another number of classes, an unknown `ensemble`.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: keras.Model | Sequence[keras.Model],
        dataset: Any = None,
        views: Views | None = None,
        ensemble: str = "logits",
    ):
        super().__init__(student, dataset, views)
        teachers = [teachers] if isinstance(teachers, keras.Model) else list(teachers)
        if not teachers:
            raise WrongValue("a Distiller needs at least one teacher.")
        classes = _classes(student, "student")
        for teacher in teachers:
            if _classes(teacher, "teacher") != classes:
                raise WrongValue(
                    f"teacher {teacher.name!r} knows {teacher.output_shape[-1]} classes, "
                    f"student {student.name!r} {classes}: they must be the same."
                )
        if ensemble not in ("logits", "probabilities"):
            raise WrongValue(f"ensemble is {ensemble!r}: logits or probabilities.")
        self.teachers = tuple(_frozen_copy(teacher) for teacher in teachers)
        self.probabilistic = tuple(answers_in_probabilities(teacher) for teacher in teachers)
        self.ensemble = ensemble
        self.agreement = keras.metrics.Mean(name="agreement")

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

    def prepare(self, data: Any) -> Batch:
        batch = super().prepare(data)
        return batch._replace(teacher_logits=self.teach(batch.given))

    def teach(self, images: Any) -> Any:
        """The teachers' answer to `images`: logits (n, classes), in inference mode."""
        answers = []
        for teacher, probabilistic in zip(self.teachers, self.probabilistic):
            answer = ops.cast(teacher(images, training=False), "float32")
            # The logarithms of probabilities are logits of the same probabilities.
            answers.append(ops.log(ops.maximum(answer, SMALLEST)) if probabilistic else answer)
        if len(answers) == 1:
            return answers[0]
        if self.ensemble == "logits":
            return ops.mean(ops.stack(answers), axis=0)
        # The mean of the log-probabilities' exponentials, taken in logarithms: no underflow.
        log_p = ops.log_softmax(ops.stack(answers))
        return ops.logsumexp(log_p, axis=0) - ops.log(float(len(answers)))

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


def _classes(network: keras.Model, role: str) -> int:
    shape = getattr(network, "output_shape", None) if network.built else None
    if not (isinstance(network, keras.Model) and isinstance(shape, tuple) and len(shape) == 2):
        raise WrongValue(
            f"{role} {network.name!r} must be a functional model, or a Sequential one with an Input, "
            "that maps images to (n, classes)."
        )
    return shape[-1]


def _frozen_copy(teacher: keras.Model) -> keras.Model:
    """A copy to teach with, its weights out of the optimiser's reach, so that the caller's own model is
    neither frozen nor held."""
    copy = keras.models.clone_model(teacher)
    copy.set_weights(teacher.get_weights())
    for layer in copy._flatten_layers():
        if hasattr(layer, "finalize_state"):  # an adapted Normalization computes with what it derives here
            layer.finalize_state()
    copy.trainable = False
    return copy
