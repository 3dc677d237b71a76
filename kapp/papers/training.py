"""What a paper prints of how it trains."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """The settings of a training but for its length; the flags of the same names say more."""

    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()  # epochs
    rates: tuple[float, ...] = ()  # one more than milestones; none: a tenth at each
    warmup_epochs: int = 0
    shift: int = 4  # pixels
