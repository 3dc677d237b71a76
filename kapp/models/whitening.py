"""The kernel of a whitening convolution, from the training images; imports no Keras."""

import numpy as np

KERNEL_SIZE = 2  # pixels; that of `kapp.data.patches`
EPSILON = 5e-4  # added to a variance; Jordan 2024's code


def whitening_kernel(covariance: np.ndarray, channels: int) -> np.ndarray:
    """Returns filters whose outputs on 2x2 patches are uncorrelated and have variance 1 (Jordan 2024, section
    3.2): the eigenvectors of the patches' covariance, divided by the roots of their eigenvalues, and the
    negatives of these filters, as an activation follows.

    Args:
        covariance: (4 * channels, 4 * channels), of patches (2, 2, channels) as vectors.
        channels: of the images.

    Returns:
        float32 (2, 2, channels, 8 * channels), the directions of the largest variance first.

    Raises:
        ValueError: the covariance is that of other patches.
    """
    size = KERNEL_SIZE**2 * channels
    if covariance.shape != (size, size):
        raise ValueError(f"the covariance of {channels} channels must be {(size, size)}.")
    variances, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    # The sign of an eigenvector is arbitrary: its largest component is positive.
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(size)]
    filters = vectors * np.sign(largest) / np.sqrt(variances + EPSILON)
    kernel = np.concatenate([filters, -filters], axis=1)
    return kernel.reshape(KERNEL_SIZE, KERNEL_SIZE, channels, 2 * size).astype(np.float32)
