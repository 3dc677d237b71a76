"""Layer specs -> functional Keras model."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers

from kapp.errors import ConfigError
from kapp.models import blocks
from kapp.models.airbench import add_airbench_layers
from kapp.models.notation import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    LayerSpec,
    Pooling,
    Relu,
    output_layer_index,
)

# The names of layers: conv1, conv2, pool1, ...
PREFIXES = {
    Convolution: "conv",
    Dense: "dense",
    Pooling: "pool",
    AveragePooling: "average",
    Dropout: "dropout",
}
FLOAT32: dict[str, Any] = {"dtype": "float32"}


def build_model(
    specs: Sequence[LayerSpec],
    *,
    image_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    residual: bool = False,
    batch_norm: bool = True,
    airbench: bool = False,
    pooling_norm: float = math.inf,
    patch_covariance: np.ndarray | None = None,
    seed: int = 0,
    name: str = "network",
) -> keras.Model:
    """Returns a new functional model: images (n, height, width, channels), 0 to 255, to logits (n, classes).

    The logits are float32 under every dtype policy.

    Args:
        specs: from `notation.parse`; ReLU follows each hidden convolution and fully connected layer.
        image_shape, mean, std, pooling_norm, patch_covariance, seed: as for `kapp.models.build`.
        residual: whether a skip connection is added to each pair of convolutions; where the number of
            filters changes, the map is halved.
        batch_norm: whether batch normalization precedes each ReLU; without it each layer has a bias.
        airbench: whether the layers are those of `airbench.add_airbench_layers`, with GELU.
        name: of the model.

    Raises:
        ConfigError: the layers don't fit the images, or don't end in (n, classes); or Keras is configured for
            channels first.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ConfigError(
            "Keras is configured for channels_first (in keras.json, or by set_image_data_format), but kapp's "
            "networks need channels_last."
        )
    seeds = blocks.seed_stream(seed)
    images = keras.Input(image_shape, name="images")
    variance = [float(each) ** 2 for each in std]
    x = layers.Normalization(mean=[float(each) for each in mean], variance=variance, name="normalise")(images)
    output = output_layer_index(specs)
    try:
        if airbench:
            logits = add_airbench_layers(x, specs, seeds, pooling_norm, patch_covariance)
            return keras.Model(images, logits, name=name)
        add_layers = add_residual_layers if residual else add_hidden_layers
        x = add_layers(x, specs[:output], seeds, batch_norm, pooling_norm)
        logits = add_output_layers(x, specs[output:], seeds)
    except ValueError as error:  # of Keras: a layer doesn't accept a shape
        raise ConfigError(f"{name}: the layers don't fit images of {image_shape}: {error}") from error
    if len(logits.shape) != 2:
        raise ConfigError(f"{name}: ends in a map {logits.shape[1:]}, not in classes. Append gap or 10fc.")
    return keras.Model(images, logits, name=name)


def add_hidden_layers(
    x: KerasTensor, specs: Sequence[LayerSpec], seeds: Iterator[int], batch_norm: bool, pooling_norm: float
) -> KerasTensor:
    """Adds the layers one after another."""
    activate = blocks.batch_norm_relu if batch_norm else blocks.relu
    numbers: Counter[type] = Counter()
    for spec in specs:
        numbers[type(spec)] += 1
        name = f"{PREFIXES.get(type(spec))}{numbers[type(spec)]}"
        match spec:
            case Convolution(filters, kernel_size, strides, padding):
                x = blocks.conv(
                    x, filters, seeds, name, kernel_size, strides, padding, use_bias=not batch_norm
                )
                x = activate(x, name)
            case Dense(units):
                x = activate(blocks.dense(x, units, seeds, name, use_bias=not batch_norm), name)
            case Pooling(pool_size, strides, padded):
                x = blocks.pool(x, pool_size, strides, padded, pooling_norm, name)
            case AveragePooling(pool_size):
                x = layers.AveragePooling2D(pool_size, name=name)(x)
            case Dropout(rate, channels):
                x = blocks.dropout(x, rate, seeds, name, channels)
            case GlobalAveragePooling():
                x = layers.GlobalAveragePooling2D(name="average")(x)
            case Relu():
                raise ConfigError(
                    "relu follows each hidden layer by default: write it after the classes only."
                )
    return x


def add_residual_layers(
    x: KerasTensor, specs: Sequence[LayerSpec], seeds: Iterator[int], batch_norm: bool, pooling_norm: float
) -> KerasTensor:
    """Adds pairs of convolutions with skip connections, then the other layers."""
    convolutions = [spec for spec in specs if isinstance(spec, Convolution)]
    rest = specs[len(convolutions) :]
    if len(convolutions) % 2 or any(isinstance(spec, Convolution) for spec in rest):
        raise ConfigError("a residual network starts with an even number of convolutions, in pairs.")
    filters = None
    for i, spec in enumerate(convolutions[::2], start=1):
        strides = 2 if filters not in (None, spec.filters) else 1
        x = blocks.residual_block(x, spec.filters, seeds, f"block{i}", strides)
        filters = spec.filters
    return add_hidden_layers(x, rest, seeds, batch_norm, pooling_norm)


def add_output_layers(x: KerasTensor, specs: Sequence[LayerSpec], seeds: Iterator[int]) -> KerasTensor:
    """Adds the output layer, without activation and in float32, and what follows it."""
    match specs[0]:
        case Dense(units):
            x = blocks.dense(x, units, seeds, "logits", use_bias=True, **FLOAT32)
        case Convolution(filters, kernel_size, strides, padding):
            x = blocks.conv(
                x, filters, seeds, "logits", kernel_size, strides, padding, use_bias=True, **FLOAT32
            )
    numbers: Counter[str] = Counter()
    for spec in specs[1:]:
        prefix = "logits_relu" if isinstance(spec, Relu) else "average"
        numbers[prefix] += 1
        name = prefix if numbers[prefix] == 1 else f"{prefix}_{numbers[prefix]}"
        match spec:
            case GlobalAveragePooling():
                x = layers.GlobalAveragePooling2D(name=name, **FLOAT32)(x)
            case AveragePooling(pool_size):
                x = layers.AveragePooling2D(pool_size, name=name, **FLOAT32)(x)
            case Relu():
                x = layers.ReLU(name=name, **FLOAT32)(x)
            case _:
                raise ConfigError(f"only gap, ap and relu may follow the classes, not {spec}.")
    if len(x.shape) == 4 and tuple(x.shape[1:3]) == (1, 1):
        x = layers.Flatten(name="flatten_logits", **FLOAT32)(x)
    return x
