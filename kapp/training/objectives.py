"""What a student is asked to match: pure functions of logits (n, classes), one value a sample (n,)."""

from collections.abc import Callable
from typing import Any

from keras import ops

from kapp.errors import unknown

NAMES = ("prob_mse", "logit_mse", "kl")
Objective = Callable[[Any, Any], Any]


def cross_entropy(labels: Any, logits: Any) -> Any:
    """-log softmax(logits)[label], in nats (paper D, section 4.6); labels: integers (n,)."""
    log_p = ops.log_softmax(ops.cast(logits, "float32"))
    return -ops.squeeze(ops.take_along_axis(log_p, ops.cast(labels, "int32")[:, None], axis=-1), -1)


def prob_mse(teacher_logits: Any, student_logits: Any) -> Any:
    """Mean over the classes of the squared difference of the softmax outputs (paper D, section 4.6)."""
    teacher, student = (ops.softmax(ops.cast(z, "float32")) for z in (teacher_logits, student_logits))
    return ops.mean(ops.square(teacher - student), axis=-1)


def logit_mse(teacher_logits: Any, student_logits: Any) -> Any:
    """Mean over the classes of the squared difference of the logits (Ba & Caruana 2014, equation 1;
    Urban et al. 2016)."""
    teacher, student = (ops.cast(z, "float32") for z in (teacher_logits, student_logits))
    return ops.mean(ops.square(teacher - student), axis=-1)


def kl(teacher_logits: Any, student_logits: Any, temperature: float = 4.0) -> Any:
    """T^2 KL(teacher || student) of the softmax outputs at temperature T; the factor keeps the gradient's
    size when T changes (Hinton et al. 2015, section 2.1)."""
    log_p, log_q = (
        ops.log_softmax(ops.cast(z, "float32") / temperature) for z in (teacher_logits, student_logits)
    )
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def named(name: str, temperature: float) -> Objective:
    """The objective called `name`, one of `NAMES`; only kl has a temperature.

    Raises:
        WrongValue: an unknown name.
    """
    match name:
        case "prob_mse":
            return prob_mse
        case "logit_mse":
            return logit_mse
        case "kl":
            return lambda teacher, student: kl(teacher, student, temperature)
    raise unknown("objective", name, NAMES)
