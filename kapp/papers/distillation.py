"""The temperatures and weights of distillation losses; imports no Keras."""

import math

from kapp.errors import ConfigError

TEMPERATURES = {"kl": 4.0, "dkd": 4.0, "nkd": 1.0, "dist": 1.0}  # the defaults, those of the papers
NEED_LABELS = ("dkd", "nkd")  # they treat the label's class and the others apart


def check_labels(loss: str, mixes: bool, lacks_labels: bool) -> None:
    """Refuse a loss that needs the one true label of each image, where an image may have two or none.

    Args:
        loss: the name of a distillation loss.
        mixes: whether images are mixed by mixup or CutMix.
        lacks_labels: whether training images have no label.

    Raises:
        ConfigError: the loss is one of `NEED_LABELS`, and images are mixed or have no label.
    """
    if loss in NEED_LABELS and mixes:
        raise ConfigError(
            f"--distillation-loss {loss} needs one label per image, but --mixup and --cutmix mix two: leave "
            "them out, or use kl."
        )
    if loss in NEED_LABELS and lacks_labels:
        raise ConfigError(
            f"--distillation-loss {loss} needs the label of every image, but --labeled and --unlabeled leave "
            "images without one: leave them out, or use kl."
        )


def check_standardized(classes: int) -> None:
    """Refuse standardized logits of two classes: they are the same for each image, so nothing is learned.

    Raises:
        ConfigError: there are two.
    """
    if classes == 2:
        raise ConfigError(
            "--standardize-logits needs three classes or more: of two, all standardized logits are equal but "
            "for their sign. Leave it out."
        )


def distill_weight(label_weight: float, weight: float | None = None) -> float:
    """The weight of the distillation loss: `weight`, or what `label_weight` leaves of 1.

    Raises:
        ConfigError: a weight isn't a number from 0 on, both are 0, or `label_weight` is above 1 and `weight`
            is left open.

    Example:

    >>> distill_weight(label_weight=0.25), distill_weight(label_weight=1.0, weight=2.0)
    (0.75, 2.0)
    """
    for name, value in (("label", label_weight), ("distill", weight)):
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"the {name} weight is {value}: it must be 0 or more.")
    if weight is None and label_weight > 1:
        raise ConfigError(f"the label weight is {label_weight}: above 1, set the distill weight as well.")
    weight = 1.0 - label_weight if weight is None else weight
    if not weight and not label_weight:
        raise ConfigError("the label weight and the distill weight are 0: the student would learn nothing.")
    return weight
