"""Distillation losses: pure functions of labels (n,) and logits (n, classes) that return one value per
sample, (n,).

All have the signature `loss(labels, teacher_logits, student_logits)` and compute in float32. Those that don't
use the labels take None for them.

Example:

>>> labels, teacher, student = ops.array([1]), ops.array([[0.0, 0.0]]), ops.array([[0.0, 4.0]])
>>> [round(float(loss(labels, teacher, student)[0]), 4) for loss in (prob_mse, logit_mse, kl)]
[0.2323, 8.0, 1.9218]
>>> round(float(cross_entropy(labels, student)[0]), 4)
0.0181
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from keras import ops

from kapp.errors import unknown
from kapp.papers.distillation import TEMPERATURES

DistillationLoss = Callable[[Any, Any, Any], Any]
EPSILON = 1e-12  # added to a variance before its square root, whose gradient at 0 is infinite
FAR_BELOW = 1e30  # subtracted from a logit: its probability and its gradient become 0


def cross_entropy(labels: Any, logits: Any, smoothing: float = 0.0) -> Any:
    """-log softmax(logits)[label], in nats, for integer labels (n,) (Ratusznik et al., section 4.6).

    With `smoothing`, that part of each label is divided among all classes (Szegedy et al. 2016, section 7).
    """
    log_p = ops.log_softmax(_float32(logits))
    loss = -_at(labels, log_p)
    return (1 - smoothing) * loss - smoothing * ops.mean(log_p, axis=-1) if smoothing else loss


def prob_mse(labels: Any, teacher_logits: Any, student_logits: Any) -> Any:
    """Mean squared difference of the probabilities over the classes (Ratusznik et al., section 4.6)."""
    teacher, student = ops.softmax(_float32(teacher_logits)), ops.softmax(_float32(student_logits))
    return ops.mean(ops.square(teacher - student), axis=-1)


def logit_mse(labels: Any, teacher_logits: Any, student_logits: Any) -> Any:
    """Mean squared difference of the logits over the classes (Ba & Caruana 2014, equation 1; Urban et al.
    2016)."""
    return ops.mean(ops.square(_float32(teacher_logits) - _float32(student_logits)), axis=-1)


def kl(labels: Any, teacher_logits: Any, student_logits: Any, temperature: float = 4.0) -> Any:
    """T^2 KL(teacher || student) of the probabilities at temperature T (Hinton et al. 2015, section 2.1).
    The factor T^2 keeps the size of the gradient when T changes."""
    log_p, log_q = (ops.log_softmax(_float32(z) / temperature) for z in (teacher_logits, student_logits))
    return temperature**2 * _kl(log_p, log_q)


def dkd(
    labels: Any,
    teacher_logits: Any,
    student_logits: Any,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Any:
    """Decoupled distillation (Zhao et al. 2022, arXiv:2203.08679, equation 7).

    T^2 (alpha KL of "the label's class or another" + beta KL among the other classes), at temperature T. With
    beta equal to the teacher's probability of the other classes it is `kl`.

    Args:
        alpha, beta: the paper's; it trains CIFAR-100 with 1 and, for most pairs of networks, 8.
    """
    binary, others = [], []
    for z in (teacher_logits, student_logits):
        z = _float32(z) / temperature
        log_p, rest = ops.log_softmax(z), _without(labels, z)
        log_rest = ops.logsumexp(rest, axis=-1) - ops.logsumexp(z, axis=-1)
        binary.append(ops.stack([_at(labels, log_p), log_rest], axis=-1))
        others.append(ops.log_softmax(rest))
    return temperature**2 * (alpha * _kl(*binary) + beta * _kl(*others))


def nkd(
    labels: Any, teacher_logits: Any, student_logits: Any, temperature: float = 1.0, gamma: float = 1.5
) -> Any:
    """Normalized distillation (Yang et al. 2023, arXiv:2303.13005, equation 8).

    The cross-entropy of the label's class, weighted by the teacher's probability of it, plus gamma T^2 times
    the cross-entropy among the other classes at temperature T. Its minimum isn't 0.

    Args:
        gamma: 1.5, as the paper's for CIFAR-100.
    """
    teacher, student = _float32(teacher_logits), _float32(student_logits)
    of_label = ops.exp(_at(labels, ops.log_softmax(teacher))) * cross_entropy(labels, student)
    p = ops.softmax(_without(labels, teacher) / temperature)
    log_q = ops.log_softmax(_without(labels, student) / temperature)
    return of_label - gamma * temperature**2 * ops.sum(ops.where(p > 0, p * log_q, 0.0), axis=-1)


def dist(
    labels: Any,
    teacher_logits: Any,
    student_logits: Any,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Any:
    """One minus Pearson's correlation of the probabilities at temperature T (DIST; Huang et al. 2022,
    arXiv:2205.10536, equations 7 to 10).

    T^2 (beta times that over the classes of each sample + gamma times that over the samples of the batch, the
    mean of the classes). The second part is one number for the batch, and is added to every sample.
    """
    p, q = (ops.softmax(_float32(z) / temperature) for z in (teacher_logits, student_logits))
    per_sample = 1.0 - _correlation(p, q, axis=-1)
    per_class = 1.0 - _correlation(p, q, axis=0)
    return temperature**2 * (beta * per_sample + gamma * ops.mean(per_class))


LOSSES: dict[str, Callable[..., Any]] = {
    "prob_mse": prob_mse,
    "logit_mse": logit_mse,
    "kl": kl,
    "dkd": dkd,
    "nkd": nkd,
    "dist": dist,
}
NAMES = tuple(LOSSES)


def standardize(logits: Any) -> Any:
    """Logits minus their mean, divided by their sample standard deviation over the classes (Sun et al. 2024,
    arXiv:2403.01427, algorithm 1), float32. The student then needs the teacher's relations between logits,
    not their scale."""
    logits = _float32(logits)
    centered = logits - ops.mean(logits, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(centered), axis=-1, keepdims=True) / (logits.shape[-1] - 1)
    return centered / ops.sqrt(variance + EPSILON)


def get(
    identifier: str | DistillationLoss, temperature: float | None = None, standardize_logits: bool = False
) -> DistillationLoss:
    """Returns the distillation loss called `identifier`, one of `NAMES`. A function is taken as it is.

    Args:
        temperature: of kl, dkd, nkd and dist. None: the paper's.
        standardize_logits: `standardize` the teacher's and the student's logits first.

    Raises:
        ConfigError: the name is unknown.
    """
    if callable(identifier):
        loss = identifier
    elif identifier not in LOSSES:
        raise unknown("distillation_loss", identifier, NAMES)
    elif temperature is not None and identifier in TEMPERATURES:
        loss = partial(LOSSES[identifier], temperature=temperature)
    else:
        loss = LOSSES[identifier]
    if not standardize_logits:
        return loss
    return lambda labels, teacher, student: loss(labels, standardize(teacher), standardize(student))


def _float32(logits: Any) -> Any:
    return ops.cast(logits, "float32")


def _at(labels: Any, values: Any) -> Any:
    """values[i, labels[i]], (n,)."""
    return ops.squeeze(ops.take_along_axis(values, ops.cast(labels, "int32")[:, None], axis=-1), -1)


def _without(labels: Any, logits: Any) -> Any:
    """Logits in which the label's class has no probability."""
    return logits - FAR_BELOW * ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1], dtype="float32")


def _kl(log_p: Any, log_q: Any) -> Any:
    # A probability of 0 contributes 0, however small the other is.
    return ops.sum(ops.where(log_p > -FAR_BELOW / 2, ops.exp(log_p) * (log_p - log_q), 0.0), axis=-1)


def _correlation(p: Any, q: Any, axis: int) -> Any:
    """Pearson's correlation of `p` and `q` along `axis`; 0 where one of them is constant."""
    p, q = (x - ops.mean(x, axis=axis, keepdims=True) for x in (p, q))
    products = [ops.sum(x * y, axis=axis) for x, y in ((p, q), (p, p), (q, q))]
    return products[0] / ops.sqrt((products[1] + EPSILON) * (products[2] + EPSILON))
