"""The size of a network, from its layer specs alone: before Keras is imported, and before memory is used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kapp.errors import ConfigError
from kapp.models.code_variants import apply_code_variants
from kapp.models.notation import (
    AveragePooling,
    Convolution,
    Dense,
    GlobalAveragePooling,
    LayerSpec,
    Pooling,
    output_layer_index,
    scale,
)
from kapp.models.registry import get_spec


@dataclass(frozen=True)
class Size:
    """What a network takes of memory.

    Args:
        parameters: all of them, those of batch normalization that aren't trained included.
        activations: outputs of convolutions, fully connected layers, batch normalizations and ReLUs, and
            poolings, for one image.
    """

    parameters: int
    activations: int

    def training_bytes(self, batch_size: int, optimizer: str) -> int:
        """The least memory of a training: weights, gradients and the optimizer's state in float32, and the
        activations of a batch in bfloat16."""
        copies = 2 + (1 if optimizer in ("sgd", "lion", "muon") else 2)
        return 4 * copies * self.parameters + 2 * batch_size * self.activations


def measure(
    name: str,
    classes: int,
    image_shape: tuple[int, int, int],
    width: float = 1.0,
    code_variants: Sequence[str] = (),
) -> Size:
    """Returns the size of the network that `kapp.models.build` makes of the same arguments.

    Raises:
        ConfigError: the images are too small for a layer; and as `build` does for a name.

    Example:

    >>> measure("linear_3", classes=10, image_shape=(32, 32, 3)).parameters
    10522634
    """
    spec = get_spec(name)
    specs = apply_code_variants(name, scale(spec.layers, width, classes), code_variants)
    shape, where = image_shape, f"{name}: the layers don't fit images of {image_shape}"
    output, block_filters = output_layer_index(specs), None
    parameters = activations = 0
    normalization = 4 if spec.batch_norm else 1  # parameters per channel; else a bias
    if spec.airbench:
        normalization = 3  # no scale
    for i, layer in enumerate(specs):
        is_hidden = i < output
        extra = normalization if is_hidden else 1
        match layer:
            case Convolution(filters, kernel_size, strides, padding):
                if spec.residual and is_hidden:  # pairs of convolutions with a skip connection
                    is_first = i % 2 == 0
                    strides = 2 if is_first and block_filters not in (None, filters) else 1
                    if is_first and shape[2] != filters:
                        parameters += (shape[2] + extra) * filters
                    block_filters = filters
                if spec.airbench and i == 0:  # each direction and its negative; a bias
                    filters, extra = 2 * kernel_size**2 * shape[2], 1
                parameters += (kernel_size**2 * shape[2] + extra) * filters
                shape = (*_map_size(where, shape, layer, kernel_size, strides, padding), filters)
                activations += (1 if spec.airbench else 1 + is_hidden) * math.prod(shape)
            case Pooling(pool_size, strides, padded):
                padding = None if padded and pool_size != strides else 0
                shape = (*_map_size(where, shape, layer, pool_size, strides, padding), shape[2])
                activations += math.prod(shape)
            case AveragePooling(pool_size):
                shape = (*_map_size(where, shape, layer, pool_size, pool_size, 0), shape[2])
            case GlobalAveragePooling():
                shape = (1, 1, shape[2])
            case Dense(units):
                parameters += (math.prod(shape) + (0 if spec.airbench else extra)) * units
                shape = (1, 1, units)
                activations += (1 + is_hidden) * units
    kernels = {layer.kernel_size for layer in specs if isinstance(layer, Convolution)} - {1}
    if kernels and image_shape[:2] == (1, 1):  # all weights of a kernel but one see padding
        raise ConfigError(
            f"{where}: a {max(kernels)}x{max(kernels)} convolution needs more than one pixel. Use larger "
            "images (folder:PATH@SIZE), or a network of fully connected layers."
        )
    return Size(parameters, activations)


def _map_size(
    where: str, shape: tuple[int, int, int], layer: LayerSpec, window: int, strides: int, padding: int | None
) -> tuple[int, int]:
    """Height and width of a map of `shape` after a layer; `padding` as of a `Convolution`. An error begins
    with `where`."""
    if padding is None:
        return -(-shape[0] // strides), -(-shape[1] // strides)
    height, width = ((side + 2 * padding - window) // strides + 1 for side in shape[:2])
    if min(height, width) < 1:
        raise ConfigError(
            f"{where}: {layer} gets a map of {shape[0]}x{shape[1]} pixels. Use larger "
            "images (folder:PATH@SIZE), or a network with fewer poolings."
        )
    return height, width
