import keras
import numpy as np
import pytest

from kapp.data.augmentation import gather_and_augment
from kapp.data.sampling import Augmentation
from tests.helpers import crop_and_flip


@pytest.mark.parametrize(
    ("crop_padding", "flip", "shape"),
    [(4, True, (32, 32, 3)), (2, False, (8, 6, 1)), (0, True, (5, 5, 3)), (5, True, (6, 9, 3))],
)
def test_every_view_is_the_crop_and_flip_of_numpy(crop_padding, flip, shape):
    images = np.random.default_rng(0).integers(1, 256, (7, *shape)).astype(np.uint8)
    augmentation = Augmentation(crop_padding, flip)
    view = np.arange(augmentation.count, dtype=np.int32)
    sample = (view * 5 % 7).astype(np.int32)
    views = gather_and_augment(*map(keras.ops.convert_to_tensor, (images, sample, view)), augmentation)
    assert keras.backend.standardize_dtype(views.dtype) == "uint8"
    for i, image in enumerate(keras.ops.convert_to_numpy(views)):
        np.testing.assert_array_equal(image, crop_and_flip(images[sample[i]], i, crop_padding, flip))


def test_the_identity_view_is_the_image():
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    sample = np.array([2, 0, 1], np.int32)
    view = np.full(3, Augmentation().identity, np.int32)
    views = gather_and_augment(*map(keras.ops.convert_to_tensor, (images, sample, view)), Augmentation())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(views), images[sample])
