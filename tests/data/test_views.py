import keras
import numpy as np
import pytest

from kapp.data.epochs import Views
from kapp.data.views import show


def plainly(image: np.ndarray, view: int, shift: int, flip: bool) -> np.ndarray:
    """A crop and a flip as one would write them for one image, all views counted in order."""
    ways = [
        (flipped, dy, dx)
        for flipped in ((False, True) if flip else (False,))
        for dy in range(2 * shift + 1)
        for dx in range(2 * shift + 1)
    ]
    flipped, dy, dx = ways[view]
    height, width, _ = image.shape
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)))
    crop = padded[dy : dy + height, dx : dx + width]
    return crop[:, ::-1] if flipped else crop


@pytest.mark.parametrize(
    ("shift", "flip", "shape"),
    [(4, True, (32, 32, 3)), (2, False, (8, 6, 1)), (0, True, (5, 5, 3)), (5, True, (6, 9, 3))],
)
def test_every_view_is_the_plain_crop_and_flip(shift, flip, shape):
    images = np.random.default_rng(0).integers(1, 256, (7, *shape)).astype(np.uint8)
    views = Views(shift, flip)
    view = np.arange(views.count, dtype=np.int32)
    sample = (view * 5 % 7).astype(np.int32)
    seen = show(*map(keras.ops.convert_to_tensor, (images, sample, view)), views)
    assert keras.backend.standardize_dtype(seen.dtype) == "uint8"
    for i, shown in enumerate(keras.ops.convert_to_numpy(seen)):
        np.testing.assert_array_equal(shown, plainly(images[sample[i]], i, shift, flip))


def test_the_identity_view_is_the_image():
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    sample = np.array([2, 0, 1], np.int32)
    view = np.full(3, Views().identity, np.int32)
    seen = show(*map(keras.ops.convert_to_tensor, (images, sample, view)), Views())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(seen), images[sample])
