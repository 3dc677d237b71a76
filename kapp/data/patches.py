"""The covariance of small patches of images, by which a first layer whitens them."""

from collections.abc import Sequence

import numpy as np

PATCH_SIZE = 2  # pixels
MAX_PIXELS = 5000 * 32 * 32  # as many as Jordan 2024's code uses: half a second
CHUNK_PIXELS = 500 * 32 * 32  # in memory at once


def patch_covariance(
    images: np.ndarray, samples: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """Returns the mean outer product of the 2x2 patches of normalized images, which have mean 0 or nearly so.

    The sums are of whole numbers, which float64 adds exactly: every machine has the same.

    Args:
        images: uint8 (n, height, width, channels).
        samples: the indices of the images to use; the first of them count, up to 5 million pixels.
        mean, std: of each channel, by which images are normalized.

    Returns:
        float64 (4 * channels, 4 * channels), of patches (2, 2, channels) as vectors. The identity where
        images have no such patches.
    """
    height, width, channels = images.shape[1:]
    size = PATCH_SIZE**2 * channels
    if min(height, width) < PATCH_SIZE:
        return np.eye(size)
    samples = samples[: max(1, MAX_PIXELS // (height * width))]
    step = max(1, CHUNK_PIXELS // (height * width))
    count, sums, products = 0, np.zeros(size), np.zeros((size, size))
    for start in range(0, len(samples), step):
        chunk = np.asarray(images[samples[start : start + step]])
        corners = [chunk[:, y : height - 1 + y, x : width - 1 + x] for y in (0, 1) for x in (0, 1)]
        patches = np.concatenate(corners, axis=-1).reshape(-1, size).astype(np.float64)
        count += len(patches)
        sums += patches.sum(axis=0)
        products += patches.T @ patches
    shift, scale = np.tile(mean, PATCH_SIZE**2), np.tile(std, PATCH_SIZE**2)
    cross = np.outer(sums / count, shift)
    centered = products / count - cross - cross.T + np.outer(shift, shift)
    return centered / np.outer(scale, scale)
