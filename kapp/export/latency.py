"""The latency and the throughput of a predictor."""

import time
from statistics import median
from typing import NamedTuple

import numpy as np

from kapp.export.predictor import Predictor

WARM_UP, REPEATS, MIN_REPEATS = 3, 20, 3
MAX_SECONDS = 5.0  # a slow model is repeated less often


class Latency(NamedTuple):
    """Medians over repeats, from uint8 images in memory to probabilities in memory."""

    latency_ms: float  # of one image
    images_per_second: float  # in batches


def measure(predictor: Predictor, images: np.ndarray, batch_size: int) -> Latency:
    """The latency of one image and the throughput in batches of `batch_size`, after a warm-up.

    Args:
        images: uint8 (n, height, width, channels), at least one; repeated if they don't fill a batch.
    """
    batch = np.resize(images[:batch_size], (batch_size, *images.shape[1:]))
    return Latency(
        latency_ms=1000 * _median_seconds(predictor, images[:1]),
        images_per_second=batch_size / _median_seconds(predictor, batch),
    )


def _median_seconds(predictor: Predictor, images: np.ndarray) -> float:
    for _ in range(WARM_UP):
        predictor.runtime.predict_batch(images)
    durations: list[float] = []
    while len(durations) < REPEATS and (len(durations) < MIN_REPEATS or sum(durations) < MAX_SECONDS):
        started = time.perf_counter()
        np.asarray(predictor.runtime.predict_batch(images))
        durations.append(time.perf_counter() - started)
    return median(durations)
