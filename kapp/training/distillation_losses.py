"""Distillation losses: pure functions of logits (n, classes) that return one value per sample, (n,).

Example:

>>> teacher, student = ops.array([[0.0, 0.0]]), ops.array([[0.0, 4.0]])
>>> [round(float(loss(teacher, student)[0]), 4) for loss in (prob_mse, logit_mse, kl)]
[0.2323, 8.0, 1.9218]
>>> round(float(cross_entropy(ops.array([1]), student)[0]), 4)
0.0181
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from keras import ops

from kapp.errors import unknown

NAMES = ("prob_mse", "logit_mse", "kl")
DistillationLoss = Callable[[Any, Any], Any]


def cross_entropy(labels: Any, logits: Any) -> Any:
    """-log softmax(logits)[label], in nats, for integer labels (n,) (Ratusznik et al., section 4.6)."""
    log_p = ops.log_softmax(ops.cast(logits, "float32"))
    return -ops.squeeze(ops.take_along_axis(log_p, ops.cast(labels, "int32")[:, None], axis=-1), -1)


def prob_mse(teacher_logits: Any, student_logits: Any) -> Any:
    """Mean squared difference of the probabilities over the classes (Ratusznik et al., section 4.6)."""
    teacher, student = (ops.softmax(ops.cast(z, "float32")) for z in (teacher_logits, student_logits))
    return ops.mean(ops.square(teacher - student), axis=-1)


def logit_mse(teacher_logits: Any, student_logits: Any) -> Any:
    """Mean squared difference of the logits over the classes (Ba & Caruana 2014, equation 1; Urban et al.
    2016)."""
    teacher, student = (ops.cast(z, "float32") for z in (teacher_logits, student_logits))
    return ops.mean(ops.square(teacher - student), axis=-1)


def kl(teacher_logits: Any, student_logits: Any, temperature: float = 4.0) -> Any:
    """T^2 KL(teacher || student) of the probabilities at temperature T (Hinton et al. 2015, section 2.1).
    The factor T^2 keeps the size of the gradient when T changes."""
    log_p, log_q = (
        ops.log_softmax(ops.cast(z, "float32") / temperature) for z in (teacher_logits, student_logits)
    )
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def get(identifier: str | DistillationLoss, temperature: float = 4.0) -> DistillationLoss:
    """The distillation loss that `identifier` names, one of `NAMES`; a function is returned as it is.

    Args:
        temperature: of kl.

    Raises:
        ConfigError: the name is unknown.
    """
    if callable(identifier):
        return identifier
    losses: dict[str, DistillationLoss] = {
        "prob_mse": prob_mse,
        "logit_mse": logit_mse,
        "kl": partial(kl, temperature=temperature),
    }
    if identifier not in losses:
        raise unknown("distillation_loss", identifier, NAMES)
    return losses[identifier]
