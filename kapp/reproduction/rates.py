"""How many images per second this machine trains and scores, measured by a few real steps, kept on disk."""

import hashlib
import json
import math
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from kapp import cli, records
from kapp.data import Dataset, sources
from kapp.fileio import is_file, make_folder
from kapp.models import get_spec
from kapp.recipes import distill, train, transfer
from kapp.reproduction.paper_rows import RunSettings

SECONDS = 2.0  # to measure each rate for
MAX_STEPS = 64


@dataclass(frozen=True)
class Rates:
    """The speed of one network.

    Args:
        train: images per second of training steps.
        score: images per second of predictions, of a teacher's as well.
        start: seconds before the first step: to build and compile.
        key: what was measured.
    """

    train: float
    score: float
    start: float
    key: dict[str, Any]


def supervised(settings: RunSettings) -> train.Settings:
    """The training on labels that takes as long per step as the run: the same network, batches, optimizer."""
    if isinstance(settings, distill.Settings):
        return settings.baseline_settings()
    return settings.scratch_settings() if isinstance(settings, transfer.Settings) else settings


def key(settings: train.Settings, dataset: Dataset, device: str) -> dict[str, Any]:
    """What the speed of a training depends on.

    Args:
        device: the machine's name.
    """
    spec, network = get_spec(settings.model), settings.network
    return {
        "notation": spec.notation,
        "residual": spec.residual,
        "batch_norm": spec.batch_norm,
        **records.to_json(network),
        "image_shape": list(dataset.image_shape),
        "classes": len(dataset.classes),
        "batch_size": settings.hparams.batch_size,
        "optimizer": settings.hparams.optimizer,
        "precision": settings.compute.precision,
        "backend": cli.backend(),
        "device": device,
    }


def read(key: dict[str, Any], data_dir: str | None) -> Rates | None:
    """The rates that were measured for `key` before."""
    file = _file(key, data_dir)
    return records.read(Rates, file, "Delete it.") if is_file(file) else None


def measure(config: dict[str, Any], device: str) -> dict[str, Any]:
    """Measure the rates of a training on labels; called by the cluster.

    Args:
        config: the settings of `train`, by the names of its flags.
        device: as for `key`.

    Returns:
        The `Rates`, as JSON.
    """
    flags = cli.as_flags(train.Config, config, "the plan")
    settings = cli.parse(train.Config, flags).resolved()
    batch_size = settings.hparams.batch_size
    dataset = settings.data.load(settings.dataset, batch_size)
    settings.compute.start(batch_size)
    from kapp.callbacks import Heartbeat, Throughput
    from kapp.data import pipelines
    from kapp.training import Learner, loop, optimizers

    started = time.perf_counter()
    learner = Learner(
        settings.network.build(settings.model, dataset, settings.seed), dataset, settings.augmentation
    )
    learner.compile(optimizers.build(settings.hparams, len(dataset.train) // batch_size))
    images = dataset.images if learner.streamed else None
    batches = pipelines.train_batches(
        dataset.train.samples, batch_size, seed=0, augmentation=settings.augmentation, images=images
    )

    def train_rate(steps: int) -> float:
        fit = learner.fit(
            batches,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[Throughput(steps * batch_size), Heartbeat()],
        )
        return fit.history["images_per_second"][-1]

    train_rate(2)
    start = time.perf_counter() - started
    rate, steps = train_rate(2), 2
    if steps * batch_size / rate < SECONDS:
        steps = min(MAX_STEPS, math.ceil(SECONDS * rate / batch_size))
        rate = train_rate(steps)

    score_batch = loop.EVAL_BATCH_SIZE

    def score_rate(count: int) -> float:
        samples = np.fromiter(islice(cycle(dataset.test.samples), count * score_batch), np.int32)
        batches = pipelines.eval_batches(samples, score_batch, settings.augmentation, images)
        started = time.perf_counter()
        learner.predict(batches, verbose=0, callbacks=[Heartbeat()])
        return count * score_batch / (time.perf_counter() - started)

    score_rate(1)
    score = score_rate(2)
    if 2 * score_batch / score < SECONDS / 2:
        score = score_rate(min(MAX_STEPS, math.ceil(SECONDS * score / score_batch)))
    return records.to_json(Rates(rate, score, start, key(settings, dataset, device)))


def write(rates: Rates, data_dir: str | None) -> None:
    """Keep `rates` for later commands."""
    file = _file(rates.key, data_dir)
    make_folder(file.parent)
    records.write(rates, file)


def _file(key: dict[str, Any], data_dir: str | None) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return sources.home(data_dir) / "speeds" / f"{digest[:24]}.json"
