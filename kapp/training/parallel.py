"""One training on several devices: each computes its share of every batch.

On JAX alone, where `keras.distribution` is real. Every process holds the whole data set and is given whole
batches of indices, a few hundred bytes; each device gathers, and computes on, its share of them. The mean
over a batch, also of batch normalisation, is over the whole of it: the losses are those of one device.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import distribution

from kapp.errors import WrongValue


class Parallel(distribution.DataParallel):
    """Weights and images on every device; a batch comes whole and is divided by `shared`."""

    def __init__(self) -> None:
        super().__init__(auto_shard_dataset=False)

    def get_data_layout(self, data_shape: tuple[int | None, ...]) -> Any:
        return distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


def use_all(batch_size: int) -> None:
    """Have all devices, of all processes, share what is computed from here on.

    Raises:
        WrongValue: a batch can't be divided evenly among them.
    """
    if not isinstance(distribution.distribution(), Parallel):
        distribution.set_distribution(Parallel())
    if batch_size % devices():
        raise WrongValue(f"--batch-size is {batch_size}: it must be a multiple of the {devices()} devices.")


def devices() -> int:
    """How many devices share each batch."""
    spread = distribution.distribution()
    return int(np.prod(spread.device_mesh.shape)) if isinstance(spread, Parallel) else 1


def shared(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """`batch` with each device's share on that device; whole where it can't be divided evenly."""
    spread = distribution.distribution()
    if not isinstance(spread, Parallel):
        return batch

    def divided(column: Any) -> Any:
        even = column.shape[0] % devices() == 0
        return _laid_out(column, spread.batch_dim_name if even else None)

    return {name: divided(column) for name, column in batch.items()}


def whole(answers: Any) -> Any:
    """`answers`, of which each device has its share, on every device."""
    return _laid_out(answers, None) if isinstance(distribution.distribution(), Parallel) else answers


def _laid_out(tensor: Any, first_axis: str | None) -> Any:
    axes = [first_axis, *[None] * (len(tensor.shape) - 1)]
    mesh = distribution.distribution().device_mesh
    return distribution.distribute_tensor(tensor, distribution.TensorLayout(axes, mesh))
