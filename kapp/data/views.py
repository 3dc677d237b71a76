"""Indices -> images: the gather, the crop and the flip, as the first operations of the compiled step."""

from typing import Any

from keras import ops

from kapp.data.epochs import Views


def show(images: Any, sample: Any, view: Any, views: Views) -> Any:
    """The views `view` of the samples `sample`.

    Args:
        images: uint8 (n, height, width, channels), where the compute is.
        sample, view: integers (batch,).

    Returns:
        uint8 (batch, height, width, channels), as `seen`.
    """
    return seen(ops.take(images, sample, axis=0), view, views)


def seen(images: Any, view: Any, views: Views) -> Any:
    """Each of `images` in its view.

    Args:
        images: uint8 (batch, height, width, channels).
        view: integers (batch,).

    Returns:
        uint8, of the same shape; what a crop shows beyond the image is 0 (black).
    """
    height, width, channels = images.shape[1:]
    flipped, dy, dx = (part[:, None] for part in views.decode(view))
    rows = ops.arange(height, dtype="int32")[None] + dy - views.shift
    columns = ops.arange(width, dtype="int32")[None]
    columns = ops.where(flipped == 1, width - 1 - columns, columns) + dx - views.shift

    inside = ops.logical_and(
        ops.logical_and(rows >= 0, rows < height)[:, :, None],
        ops.logical_and(columns >= 0, columns < width)[:, None, :],
    )
    picture = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None] * (height * width)
    pixel = picture + (
        ops.clip(rows, 0, height - 1)[:, :, None] * width + ops.clip(columns, 0, width - 1)[:, None, :]
    )
    pixels = ops.take(ops.reshape(images, (-1, channels)), pixel, axis=0)
    return ops.where(inside[..., None], pixels, ops.zeros_like(pixels))
