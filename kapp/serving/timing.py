"""How long a Predictor takes: one image at once, and a large batch."""

import time
from statistics import median

import numpy as np

from kapp.serving.predictor import Predictor

WARM_UP, REPEATS = 3, 20
SECONDS = 5.0  # a slow network is asked less often than REPEATS


def measure(predictor: Predictor, images: np.ndarray, batch_size: int) -> dict[str, float]:
    """Medians over repeats after a warm-up, from uint8 images in memory to probabilities in memory.

    Args:
        images: uint8 (n, height, width, channels), at least one; repeated where they don't fill a batch.

    Returns:
        `latency_ms` of one image alone; `images_per_second` in batches of `batch_size`.
    """
    batch = np.resize(images[:batch_size], (batch_size, *images.shape[1:]))
    return {
        "latency_ms": 1000 * _seconds(predictor, images[:1]),
        "images_per_second": batch_size / _seconds(predictor, batch),
        "batch_size": batch_size,
    }


def _seconds(predictor: Predictor, images: np.ndarray) -> float:
    for _ in range(WARM_UP):
        predictor.answer(images)
    taken: list[float] = []
    while len(taken) < REPEATS and (len(taken) < 3 or sum(taken) < SECONDS):
        started = time.perf_counter()
        np.asarray(predictor.answer(images))
        taken.append(time.perf_counter() - started)
    return median(taken)
