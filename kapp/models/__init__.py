"""Networks: a name or a notation to a functional Keras model. Importing this package imports no Keras."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kapp.errors import WrongValue
from kapp.models.catalogue import find, names
from kapp.models.departures import departed
from kapp.papers import all_convolutional

if TYPE_CHECKING:
    import keras

    from kapp.models.pooling import PNormPooling2D

__all__ = ["PNormPooling2D", "build", "find", "names"]

# CIFAR-10's training images, per channel, in units of 0 to 255 (paper A, section 3.1).
CIFAR10_MEAN = (125.3, 123.0, 113.9)
CIFAR10_STD = (51.6, 50.8, 51.3)


def build(
    name: str,
    classes: int = 10,
    width: float = 1.0,
    *,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    pooling_norm: float = math.inf,
    departures: Sequence[str] = (),
    seed: int = 0,
) -> "keras.Model":
    """A new network: images (n, height, width, channels), 0 to 255, to logits (n, classes).

    Args:
        name: of the catalogue (`names()`), or a notation such as 512fc^2-10fc.
        width: multiplies every layer's filters or units but the classes.
        mean, std: of the images to come, per channel, in units of 0 to 255; kept inside the network.
        pooling_norm: p of every pooling, at least 1 (equation 1 of paper A); infinity is max pooling.
        departures: of paper A's code from the published network: relu_logits, corner, dropout (see
            `kapp.models.departures`); only for the networks that it trains.
        seed: of the initial weights and of dropout.

    Raises:
        WrongValue: unknown name, width not above 0, fewer than 2 classes, p below 1, an image too small,
            a departure that the network has none of.
    """
    entry = find(name)
    if not width > 0:
        raise WrongValue(f"width is {width}: it must be above 0 (1 is the paper's size).")
    if classes < 2:
        raise WrongValue(f"classes is {classes}: a classifier needs at least 2.")
    if departures and name not in all_convolutional.models():
        raise WrongValue(
            f"{name} has no departures: paper A's code trains {', '.join(all_convolutional.models())}."
        )
    from kapp.models import networks, notation

    steps = departed(name, notation.scale(entry.steps, width, classes), departures)
    return networks.network(
        steps,
        image_shape=image_shape,
        mean=mean,
        std=std,
        residual=entry.residual,
        normalised=entry.normalised,
        pooling_norm=pooling_norm,
        seed=seed,
        name=entry.name if name in names() else "network",
    )


def __getattr__(name: str) -> Any:
    if name == "PNormPooling2D":
        from kapp.models.pooling import PNormPooling2D

        return PNormPooling2D
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
