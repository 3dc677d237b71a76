"""Hyperparameters, as a paper prints them and as a run uses them."""

from dataclasses import dataclass

WITH_WARMUP = ("cosine", "linear")  # schedules that may begin with a rise


@dataclass(frozen=True)
class HParams:
    """How to train; the flags of the same names have the details.

    Args:
        epochs: how often each training image is used.
        batch_size: images per step.
        optimizer: adam, adamw, lion, muon or sgd.
        learning_rate: the highest of the schedule.
        momentum: of sgd and muon; beta_1 of adam, adamw and lion.
        weight_decay: on kernels; an L2 penalty with sgd, decoupled with the others.
        schedule: constant, cosine, linear or multistep.
        milestones: of the multistep schedule, in epochs.
        rates: of the multistep schedule, one more than milestones; () for a tenth at each.
        warmup_epochs: of the cosine and linear schedules; fewer than epochs.
        nesterov: whether the momentum of sgd is Nesterov's.
        bias_scaler: with sgd, multiplies the learning rate of batch normalization's shifts (beta).
        label_smoothing: the part of a label that is divided among all classes, below 1.
        ema: momentum of the averaged weights, per step, below 1; 0: none.
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
    nesterov: bool = False
    bias_scaler: float = 1.0
    label_smoothing: float = 0.0
    ema: float = 0.0
