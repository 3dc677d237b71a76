"""Random images of CIFAR-10's shape: how long a step takes doesn't depend on what they show."""

import numpy as np

from kapp import data

BATCH = 128
COUNT = 10_000  # of the resident images, where no other number is given
CLASSES = tuple("abcdefghij")


def arrays(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (count, 32, 32, 3) and int32 (count,)."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, random.integers(0, len(CLASSES), count, np.int32)


def dataset(count: int = COUNT) -> data.Dataset:
    """The same as a data set of kapp's, all of it to train on."""
    images, labels = arrays(count)
    samples = np.arange(count, dtype=np.int32)
    parts = (data.Split(images, labels, part) for part in (samples, samples[:0], samples[:0]))
    return data.Dataset("random", images, labels, CLASSES, *parts)
