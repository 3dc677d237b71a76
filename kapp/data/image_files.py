"""PNG and JPEG files -> arrays in the shape that a model expects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kapp.errors import ConfigError, KappError
from kapp.fileio import is_file, is_folder

SUFFIXES = (".png", ".jpg", ".jpeg")


def find(folder: Path, recursive: bool = False) -> list[Path]:
    """Returns the PNG and JPEG files in `folder`, sorted by name.

    Args:
        recursive: also those in its subfolders.

    Raises:
        ConfigError: the folder doesn't exist or contains no image files.
    """
    if not is_folder(folder):
        raise ConfigError(f"there is no folder {str(folder)!r} of image files.")
    found = sorted(
        path
        for path in (folder.rglob("*") if recursive else folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and is_file(path)
    )
    if not found:
        raise ConfigError(f"{folder} contains no image files. kapp reads {', '.join(SUFFIXES)}.")
    return found


def size(path: Path) -> tuple[int, int]:
    """Returns the height and width of the image in pixels, after its EXIF rotation.

    Raises:
        KappError: see `read`.
    """
    with _open(path) as image:
        return image.height, image.width


def read(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the image as a uint8 array of the shape `image_shape`.

    The image is rotated by its EXIF orientation and converted to RGB or gray. Transparent pixels become
    white. The whole image is resized, without a crop, so another aspect ratio is distorted.

    Args:
        path: a PNG or JPEG file.
        image_shape: (height, width, channels), with 1 or 3 channels.

    Raises:
        ConfigError: `image_shape` has neither 1 nor 3 channels.
        KappError: the file is damaged, is neither PNG nor JPEG, or has too many pixels.
    """
    from PIL import Image

    height, width, channels = image_shape
    if channels not in (1, 3):
        raise ConfigError(f"an image file has 1 channel (gray) or 3 (RGB), the model expects {channels}.")
    with _open(path) as image:
        if image.mode.startswith("I"):  # 16-bit gray: keep the upper 8 bits
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        # Without a background, transparent pixels would get the color that is stored under them.
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        opaque = Image.alpha_composite(background, layer).convert("L" if channels == 1 else "RGB")
        resized = opaque.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8).reshape(image_shape)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Yields the PIL image, rotated; an error inside the block names the file."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            yield ImageOps.exif_transpose(image)
    except Exception as error:  # of many kinds, also struct.error: PIL's decoders don't expect damage
        raise KappError(
            f"cannot read the image file {path}: {error}. Remove it, or save it again."
        ) from error
