import keras
import numpy as np
import pytest
from keras import ops

from kapp.models.max_pooling import MaxPooling2D


@pytest.mark.parametrize("settings", [(2, 2), (3, 2), (2, 1), (3, 2, "same")])
@pytest.mark.parametrize("side", [7, 8])
def test_it_is_keras_own(settings, side):
    x = np.random.default_rng(0).normal(size=(3, side, side, 5)).astype("float32")
    ours, keras_own = (kind(*settings) for kind in (MaxPooling2D, keras.layers.MaxPooling2D))
    np.testing.assert_array_equal(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(keras_own(x)))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends have one order in memory")
def test_the_channels_stay_last_in_memory():
    assert MaxPooling2D(2)(ops.ones((2, 8, 8, 5))).is_contiguous()
