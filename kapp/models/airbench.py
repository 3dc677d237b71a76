"""The layers of airbench94 (Jordan 2024, arXiv:2404.00498, section 3 and its code)."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import KerasTensor, layers

from kapp.layers.activation import Activation
from kapp.layers.batch_normalization import BatchNormalization
from kapp.layers.convolution import Conv2D
from kapp.models import blocks
from kapp.models.initializers import VarianceScaling
from kapp.models.notation import Convolution, Dense, LayerSpec
from kapp.models.whitening import KERNEL_SIZE, whitening_kernel

# PyTorch's momentum of 0.4 is Keras's of 0.6.
BATCH_NORM: dict[str, Any] = {"momentum": 0.6, "epsilon": 1e-12, "scale": False}
LOGITS_SCALE = 1 / 9
FLOAT32: dict[str, Any] = {"dtype": "float32"}


def add_airbench_layers(
    x: KerasTensor,
    specs: Sequence[LayerSpec],
    seeds: Iterator[int],
    pooling_norm: float = math.inf,
    patch_covariance: np.ndarray | None = None,
) -> KerasTensor:
    """Adds all layers, and returns the logits, float32.

    Args:
        x: normalized images (n, height, width, channels).
        specs: of the registry: the whitening convolution, the two convolutions of each group, the poolings
            and the classes.
        seeds: from `blocks.seed_stream`.
        pooling_norm: p of each pooling.
        patch_covariance: as for `kapp.models.build`.
    """
    _, *filters = (spec.filters for spec in specs if isinstance(spec, Convolution))
    (classes,) = (spec.units for spec in specs if isinstance(spec, Dense))
    x = gelu(whiten(x, "conv1", patch_covariance), "conv1")
    for i, (first, second) in enumerate(zip(filters[::2], filters[1::2]), start=1):
        x = conv(x, first, seeds, f"conv{2 * i}")
        x = blocks.pool(x, 2, 2, True, pooling_norm, f"pool{i}")
        x = gelu(batch_norm(x, f"conv{2 * i}"), f"conv{2 * i}")
        x = conv(x, second, seeds, f"conv{2 * i + 1}")
        x = gelu(batch_norm(x, f"conv{2 * i + 1}"), f"conv{2 * i + 1}")
    x = layers.Flatten(name="flatten")(blocks.pool(x, 3, 3, True, pooling_norm, f"pool{i + 1}"))
    initializer = VarianceScaling(seed=next(seeds))
    logits = layers.Dense(classes, use_bias=False, kernel_initializer=initializer, name="logits", **FLOAT32)(
        x
    )
    return layers.Rescaling(LOGITS_SCALE, name="logits_scale", **FLOAT32)(logits)


def whiten(x: KerasTensor, name: str, patch_covariance: np.ndarray | None) -> KerasTensor:
    """A 2x2 convolution that whitens patches, unpadded. Its kernel isn't trained, only its bias.

    A file contains an ordinary convolution: fine-tuning trains its kernel as well.
    """
    channels = x.shape[-1]
    if patch_covariance is None:
        patch_covariance = np.eye(KERNEL_SIZE**2 * channels)
    kernel = whitening_kernel(patch_covariance, channels)
    layer = Conv2D(kernel.shape[-1], KERNEL_SIZE, padding="valid", name=name)
    outputs = layer(x)
    layer.kernel.assign(kernel)
    layer.kernel.trainable = False
    return outputs


def conv(x: KerasTensor, filters: int, seeds: Iterator[int], name: str) -> KerasTensor:
    """A 3x3 convolution, padded, without bias, that begins as the identity where it has a channel to copy."""
    initializer = VarianceScaling(seed=next(seeds), identity=True)
    return Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=initializer, name=name)(x)


def batch_norm(x: KerasTensor, name: str) -> KerasTensor:
    """Batch normalization without a scale of the layer called `name`."""
    return BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)


def gelu(x: KerasTensor, name: str) -> KerasTensor:
    """GELU of the layer called `name` (Hendrycks & Gimpel 2016)."""
    return Activation("gelu", name=f"{name}_gelu")(x)
