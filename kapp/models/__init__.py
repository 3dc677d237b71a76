"""Networks: a name or a notation -> functional Keras model. Importing this package imports no Keras."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kapp.errors import ConfigError
from kapp.models.code_variants import apply_code_variants
from kapp.models.notation import scale
from kapp.models.registry import RESIDUAL, get_spec, is_notation, names
from kapp.papers import hu

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["RESIDUAL", "build", "get_spec", "is_notation", "names"]

# CIFAR-10's training images, per channel, in units of 0 to 255, as Hu 2018 prints them (section 3.1). All
# pixels together have standard deviations of 63.0, 62.1 and 66.7, with which kapp's recipes normalize.
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
    patch_covariance: "np.ndarray | None" = None,
    code_variants: Sequence[str] = (),
    seed: int = 0,
) -> "keras.Model":
    """Returns a new model: images (n, height, width, channels), 0 to 255, to logits (n, classes).

    Args:
        name: of the registry (`names()`), or a notation such as 512fc^2-10fc or res-64c^4-gap-10fc.
        classes: number of classes, at least 2.
        width: multiplies the filters and units of each layer but the output layer.
        image_shape: height, width and channels, in pixels.
        mean: of the training images, per channel, in units of 0 to 255; part of the model.
        std: standard deviation, likewise.
        pooling_norm: p of each pooling, at least 1 (equation 1 of Springenberg et al. 2014); infinity is max
            pooling.
        patch_covariance: of the training images, by which airbench whitens them (`kapp.data.patches`); other
            networks don't use it. None: as if the pixels were uncorrelated.
        code_variants: builds the network as in Hu 2018's code: relu_logits, corner, dropout, filters (see
            `kapp.models.code_variants`); only for the networks of that paper.
        seed: of the initial weights and of dropout.

    Raises:
        ConfigError: the name or a code variant is unknown, `width` isn't above 0, there are fewer than 2
            classes, p is below 1, the images are too small, or Keras is configured for channels first.

    Example:

    >>> build("linear_3", classes=3, width=0.01).output_shape
    (None, 3)
    """
    spec = get_spec(name)
    if not width > 0:
        raise ConfigError(f"width is {width}: it must be above 0 (1 is the paper's size).")
    if classes < 2:
        raise ConfigError(f"classes is {classes}: a classifier needs at least 2.")
    if code_variants and name not in hu.models():
        raise ConfigError(f"{name} has no code variants: Hu 2018's code trains {', '.join(hu.models())}.")
    from kapp.models.builder import build_model

    return build_model(
        apply_code_variants(name, scale(spec.layers, width, classes), code_variants),
        image_shape=image_shape,
        mean=mean,
        std=std,
        residual=spec.residual,
        batch_norm=spec.batch_norm,
        airbench=spec.airbench,
        pooling_norm=pooling_norm,
        patch_covariance=patch_covariance,
        seed=seed,
        name=spec.name if name in names() else "network",
    )
