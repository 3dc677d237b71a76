"""Indices -> augmented images, as the first operations of the compiled step.

An image is cropped and flipped, then resized from a random crop, recolored, erased in a rectangle, and mixed
with its partner. Which of these it is, and by how much, was drawn on the host (`kapp.data.sampling`): nothing
here is random. The last four compute in float32, and their images aren't rounded to whole numbers: the last
bit of a sum differs between two compiled programs, and would become a gray level.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kapp.data.sampling import PARAMS, Augmentation


def augment_batch(batch: Mapping[str, Any], augmentation: Augmentation, images: Any = None) -> Any:
    """Returns the images of a batch of indices, each in its view.

    Args:
        batch: of `kapp.data.pipelines`.
        augmentation: what its views mean.
        images: uint8 (n, height, width, channels), on the device. None: the batch contains its images.

    Returns:
        (batch, height, width, channels), 0 to 255: float32 where the batch has "params", else uint8.
    """
    views = _views_of("", batch, augmentation, images)
    if "partner_sample" in batch:
        views = mix(views, _views_of("partner_", batch, augmentation, images), batch["params"])
    return views


def _views_of(prefix: str, batch: Mapping[str, Any], augmentation: Augmentation, images: Any) -> Any:
    """The images in the columns of `batch` that begin with `prefix`, each in its view."""
    view = batch[f"{prefix}view"]
    if images is None:
        views = augment(batch[f"{prefix}image"], view, augmentation)
    else:
        views = gather_and_augment(images, batch[f"{prefix}sample"], view, augmentation)
    return transform(views, batch[f"{prefix}params"], augmentation) if "params" in batch else views


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
    """Returns each image in its numbered view, a crop and a flip.

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
    height, width = images.shape[1:3]
    flipped, dy, dx = (part[:, None] for part in augmentation.decode(view))
    rows = ops.arange(height, dtype="int32")[None] + dy - augmentation.crop_padding
    columns = ops.arange(width, dtype="int32")[None]
    columns = ops.where(flipped == 1, width - 1 - columns, columns) + dx - augmentation.crop_padding

    inside = ops.logical_and(
        ops.logical_and(rows >= 0, rows < height)[:, :, None],
        ops.logical_and(columns >= 0, columns < width)[:, None, :],
    )
    pixels = _pixels(images, ops.clip(rows, 0, height - 1), ops.clip(columns, 0, width - 1))
    return ops.where(inside[..., None], pixels, ops.zeros_like(pixels))


def transform(images: Any, params: Any, augmentation: Augmentation) -> Any:
    """Returns each image resized from a crop, recolored and erased in a rectangle, as `augmentation` has it.

    Args:
        images: uint8 (batch, height, width, channels).
        params: float32 (batch, len(PARAMS)), from `sampling.view_params`.
        augmentation: which of the three there are.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    images = ops.cast(images, "float32")
    if augmentation.crop_scale < 1:
        images = zoom(images, params)
    if augmentation.hue or augmentation.saturation or augmentation.brightness:
        images = recolor(images, params)
    if augmentation.random_erasing:
        images = erase(images, params)
    return images


def zoom(images: Any, params: Any) -> Any:
    """Returns a crop of each image, resized to the whole image by bilinear interpolation.

    Pixels have their centers at 0.5, 1.5, ...; beyond the outermost centers the nearest pixel counts.

    Args:
        images: float32 (batch, height, width, channels).
        params: as for `transform`: the side of the crop, and where it begins.
    """
    height, width = images.shape[1:3]
    side, top, left = (_column(params, name) for name in ("zoom", "zoom_top", "zoom_left"))
    (first_rows, next_rows, down), (first_columns, next_columns, right) = (
        _neighbors(side, start, count) for start, count in ((top, height), (left, width))
    )
    down, right = down[:, :, None, None], right[:, None, :, None]
    above, below = (
        (1 - right) * _pixels(images, rows, first_columns) + right * _pixels(images, rows, next_columns)
        for rows in (first_rows, next_rows)
    )
    return (1 - down) * above + down * below


def recolor(images: Any, params: Any) -> Any:
    """Returns each image with another hue, saturation and brightness, 0 to 255.

    A color is a gray, the mean of its channels, plus its distance from it. The distance is rotated around the
    axis of grays by an angle t (the hue) and multiplied by s (the saturation); then the color is multiplied
    by the brightness. In `params`, chroma_cos is s cos(t), and chroma_sin is s sin(t) / sqrt(3).

    Args:
        images: float32 (batch, height, width, channels); of images without 3 channels only the brightness
            changes.
        params: as for `transform`.
    """
    brightness, cos, sin = (
        _column(params, name)[:, :, None, None] for name in ("brightness", "chroma_cos", "chroma_sin")
    )
    if images.shape[-1] == 3:
        gray = ops.mean(images, axis=-1, keepdims=True)
        across = ops.roll(images, 1, axis=-1) - ops.roll(images, -1, axis=-1)
        images = gray + cos * (images - gray) + sin * across
    return ops.clip(brightness * images, 0.0, 255.0)


def erase(images: Any, params: Any) -> Any:
    """Returns each image with its rectangle, if it has one, in the image's mean color.

    Args:
        images: float32 (batch, height, width, channels).
        params: as for `transform`.
    """
    rows, columns = _rectangle("erased", params, *images.shape[1:3])
    mean = ops.mean(images, axis=(1, 2), keepdims=True)
    return ops.where(_both(rows, columns), mean, images)


def mix(images: Any, partners: Any, params: Any) -> Any:
    """Returns each image blended with its partner (mixup), or with a rectangle of its partner (CutMix).

    Args:
        images, partners: (batch, height, width, channels), 0 to 255.
        params: as for `transform`, of `images`.

    Returns:
        float32 of the same shape.
    """
    images, partners = (ops.cast(each, "float32") for each in (images, partners))
    weight = _column(params, "mix_weight")[:, :, None, None]
    rows, columns = _rectangle("pasted", params, *images.shape[1:3])
    return ops.where(_both(rows, columns), partners, weight * images + (1 - weight) * partners)


def label_share(params: Any, height: int, width: int) -> Any:
    """Returns the fraction of each mixed image that is the image itself, and not its partner: (batch,).

    It is the weight of mixup, or the fraction of the pixels that CutMix left.

    Args:
        params: as for `mix`.
        height, width: of the images, in pixels.
    """
    rows, columns = _rectangle("pasted", params, height, width)
    pasted = [ops.mean(ops.cast(each, "float32"), axis=-1) for each in (rows, columns)]
    return _column(params, "mix_weight")[:, 0] * (1 - pasted[0] * pasted[1])


def _column(params: Any, name: str) -> Any:
    """The parameter called `name`, (batch, 1)."""
    return params[:, PARAMS.index(name), None]


def _rectangle(name: str, params: Any, height: int, width: int) -> tuple[Any, Any]:
    """The rows and the columns whose centers are in a rectangle: bool (batch, height), (batch, width)."""

    def between(low: str, high: str, count: int) -> Any:
        centers = ops.arange(count, dtype="float32")[None] + 0.5
        start, end = (_column(params, f"{name}_{side}") * count for side in (low, high))
        return ops.logical_and(start <= centers, centers < end)

    return between("top", "bottom", height), between("left", "right", width)


def _both(rows: Any, columns: Any) -> Any:
    """Which pixels are in these rows and columns: bool (batch, height, width, 1)."""
    return ops.logical_and(rows[:, :, None, None], columns[:, None, :, None])


def _neighbors(side: Any, start: Any, count: int) -> tuple[Any, Any, Any]:
    """Of each resized row (or column): the two rows of the image that it lies between, int32 (batch, count),
    and its distance from the first."""
    centers = ops.arange(count, dtype="float32")[None] + 0.5
    place = ops.clip(centers * side + start * count - 0.5, 0.0, count - 1.0)
    first = ops.floor(place)
    following = ops.minimum(first + 1, count - 1)
    return ops.cast(first, "int32"), ops.cast(following, "int32"), place - first


def _pixels(images: Any, rows: Any, columns: Any) -> Any:
    """images[i, rows[i, y], columns[i, x]] for all i, y, x: (batch, height, width, channels).

    Args:
        images: (batch, height, width, channels).
        rows, columns: int32 (batch, height), (batch, width).
    """
    height, width, channels = images.shape[1:]
    first_pixel = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None] * (height * width)
    pixel = first_pixel + (rows[:, :, None] * width + columns[:, None, :])
    return ops.take(ops.reshape(images, (-1, channels)), pixel, axis=0)
