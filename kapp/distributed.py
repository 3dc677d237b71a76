"""One training on several devices or in several processes; on JAX, where `keras.distribution` works.

Every process has the whole data set and makes whole batches of indices, a few hundred bytes. Each device
gathers its shard of a batch and computes on it. The mean over a batch, also in batch normalization, is over
the whole batch, so that the losses equal those of one device. The primary process writes the run folder; the
others read it, so that it must be on a file system that all of them see. Importing this module imports no
Keras.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from kapp.errors import ConfigError, KappError

_process_id, _num_processes = 0, 1
_distribution: Any = None  # a keras.distribution.DataParallel, where several devices share each batch


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Connect this process with the others; call it before Keras is imported.

    Args:
        coordinator: HOST:PORT, an address of process 0.
        num_processes: how many train together.
        process_id: the number of this process, from 0.
    """
    global _process_id, _num_processes
    if num_processes == 1 or _num_processes > 1:
        return
    import jax

    jax.distributed.initialize(coordinator, num_processes, process_id)
    _process_id, _num_processes = process_id, num_processes
    if not is_primary():  # one process prints for all
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def is_primary() -> bool:
    """Whether this process writes the run folder and prints."""
    return _process_id == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if _num_processes > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("kapp")


def run_on_primary(action: Callable[[], object]) -> None:
    """Run `action` in the primary process; all processes wait for its end.

    Raises:
        KappError: in the others, where it raised in the primary process.
    """
    run_on_all(action if is_primary() else lambda: None)


def run_on_all(action: Callable[[], object]) -> None:
    """Run `action` in every process; all processes wait until it has ended everywhere.

    Raises:
        KappError: it raised in another process, which prints the reason.
    """
    raised = None
    try:
        action()
    except Exception as error:
        raised = error
    if _num_processes > 1:
        import numpy as np
        from jax.experimental import multihost_utils

        failed = multihost_utils.process_allgather(np.array(raised is not None))
        if raised is None and failed.any():
            raise KappError(f"process {int(failed.argmax())} of this training failed; it prints the reason.")
    if raised is not None:
        raise raised


def exit_now(status: int) -> NoReturn:
    """End this process without waiting for the others, which may be waiting for it."""
    if _num_processes == 1:
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def use_all_devices(batch_size: int) -> None:
    """Share each batch among all devices of all processes from now on.

    Raises:
        ConfigError: `batch_size` isn't a multiple of the number of devices.
    """
    global _distribution
    if _distribution is None:
        from keras import distribution

        class WholeBatches(distribution.DataParallel):
            """Batches come whole to every device, and `shard_batch` divides them: Keras would expect
            shards."""

            def get_data_layout(self, data_shape: tuple[int | None, ...]) -> Any:
                return distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

        _distribution = WholeBatches(auto_shard_dataset=False)
        distribution.set_distribution(_distribution)
    if batch_size % device_count():
        raise ConfigError(
            f"--batch-size is {batch_size}: it must be a multiple of the {device_count()} devices."
        )


def device_count() -> int:
    """How many devices share each batch."""
    return _distribution.device_mesh.devices.size if _distribution is not None else 1


def shard_batch(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """`batch` with one shard per device; a batch that the devices can't share evenly stays whole."""
    if _distribution is None:
        return batch
    axis = _distribution.batch_dim_name
    return {
        name: _laid_out(column, axis if column.shape[0] % device_count() == 0 else None)
        for name, column in batch.items()
    }


def replicate(tensor: Any) -> Any:
    """`tensor`, of which each device has a shard, whole on every device."""
    return tensor if _distribution is None else _laid_out(tensor, None)


def _laid_out(tensor: Any, first_axis: str | None) -> Any:
    from keras import distribution

    axes = [first_axis, *[None] * (len(tensor.shape) - 1)]
    layout = distribution.TensorLayout(axes, _distribution.device_mesh)
    return distribution.distribute_tensor(tensor, layout)
