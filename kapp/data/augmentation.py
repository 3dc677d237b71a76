"""Indices -> augmented images: gather, crop and flip, as the first operations of the compiled step."""

from typing import Any

from keras import ops

from kapp.data.sampling import Augmentation


def gather_and_augment(images: Any, sample: Any, view: Any, augmentation: Augmentation) -> Any:
    """Returns the views `view` of the images `sample`.

    Args:
        images: uint8 (n, height, width, channels), on the device.
        sample: integers (batch,), indices into `images`.
        view: integers (batch,), views of `augmentation`.

    Returns:
        uint8 (batch, height, width, channels).
    """
    return augment(ops.take(images, sample, axis=0), view, augmentation)


def augment(images: Any, view: Any, augmentation: Augmentation) -> Any:
    """Returns each image in its view.

    Args:
        images: uint8 (batch, height, width, channels).
        view: integers (batch,), views of `augmentation`.

    Returns:
        uint8 of the same shape. Pixels outside the image are 0 (black).

    Example:

    >>> augmentation = Augmentation(crop_padding=1, flip=False)  # view 5: the crop is one pixel to the right
    >>> images = ops.array([[[[1], [2], [3]]]], dtype="uint8")
    >>> ops.convert_to_numpy(augment(images, ops.array([5]), augmentation)).ravel()
    array([2, 3, 0], dtype=uint8)
    """
    height, width, channels = images.shape[1:]
    flipped, dy, dx = (part[:, None] for part in augmentation.decode(view))
    rows = ops.arange(height, dtype="int32")[None] + dy - augmentation.crop_padding
    columns = ops.arange(width, dtype="int32")[None]
    columns = ops.where(flipped == 1, width - 1 - columns, columns) + dx - augmentation.crop_padding

    inside = ops.logical_and(
        ops.logical_and(rows >= 0, rows < height)[:, :, None],
        ops.logical_and(columns >= 0, columns < width)[:, None, :],
    )
    first_pixel = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None] * (height * width)
    row_start = ops.clip(rows, 0, height - 1)[:, :, None] * width
    pixel = first_pixel + (row_start + ops.clip(columns, 0, width - 1)[:, None, :])
    pixels = ops.take(ops.reshape(images, (-1, channels)), pixel, axis=0)
    return ops.where(inside[..., None], pixels, ops.zeros_like(pixels))
