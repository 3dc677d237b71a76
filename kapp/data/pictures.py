"""A folder of somebody's own pictures -> arrays, as a model wants them."""

from pathlib import Path

import numpy as np

from kapp.errors import Failure, WrongValue

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
UNREADABLE = (OSError, ValueError, SyntaxError)


def find(folder: Path) -> list[Path]:
    """The PNG and JPEG files in `folder`, by name.

    Raises:
        WrongValue: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise WrongValue(f"there is no folder {str(folder)!r} with pictures.")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise WrongValue(f"{folder} holds no picture: kapp reads {', '.join(SUFFIXES)}.")
    return found


def size(path: Path) -> tuple[int, int]:
    """Height and width of the picture at `path`, upright, in pixels.

    Raises:
        Failure: as `read`.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = ImageOps.exif_transpose(picture).size
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    return height, width


def read(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The picture at `path`, turned upright as its camera noted, in colour or grey as the model wants it, and
    the whole of it resized, so that one of other proportions is squeezed: uint8 `image_shape`.

    Raises:
        WrongValue: `image_shape` has neither 1 nor 3 channels.
        Failure: it is damaged, larger than any photograph, or neither PNG nor JPEG.
    """
    from PIL import Image, ImageOps

    height, width, channels = image_shape
    if channels not in (1, 3):
        raise WrongValue(f"a picture has 3 channels, or 1 in grey: it can't be one of {channels}.")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):  # grey of 16 bits, of which the upper 8 are what others show
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            # Through RGBA, what is transparent becomes white and not whatever colour lies under it.
            layered = upright.convert("RGBA")
            ground = Image.new("RGBA", layered.size, "white")
            opaque = Image.alpha_composite(ground, layered).convert("L" if channels == 1 else "RGB")
            resized = opaque.resize((width, height), Image.Resampling.BICUBIC)
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    return np.asarray(resized, np.uint8).reshape(image_shape)


def _unreadable(path: Path, error: Exception) -> Failure:
    return Failure(f"cannot read the picture {path}: {error}. Remove it, or save it again.")
