"""Hyperparameters, as a paper prints them and as a run uses them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HParams:
    """How to train; the flags of the same names say more.

    Args:
        epochs: how often each training image is used.
        batch_size: images per step.
        optimizer: adam, adamw or sgd.
        learning_rate: the highest of the schedule.
        momentum: of sgd; beta_1 of adam and adamw.
        weight_decay: on kernels; an L2 penalty with sgd, decoupled with adam and adamw.
        schedule: constant, cosine or multistep.
        milestones: of the multistep schedule, in epochs.
        rates: of the multistep schedule, one more than milestones; () for a tenth at each.
        warmup_epochs: of the cosine schedule; fewer than epochs.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    warmup_epochs: int = 0
