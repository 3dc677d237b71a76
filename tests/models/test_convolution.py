import keras
import numpy as np
import pytest
from keras import ops

from kapp.models.convolution import Conv2D


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("side", [7, 8])
def test_it_is_keras_own(side, kernel, stride, padding):
    x = np.random.default_rng(0).normal(size=(2, side, side + 1, 3)).astype("float32")
    results = []
    for kind in (Conv2D, keras.layers.Conv2D):
        layer = kind(5, kernel, stride, padding, kernel_initializer=keras.initializers.HeNormal(seed=1))
        results.append(ops.convert_to_numpy(layer(x)))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{"groups": 3}, {"dilation_rate": 2}])
def test_settings_that_it_has_no_way_for_are_left_to_keras(settings):
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    results = []
    for kind in (Conv2D, keras.layers.Conv2D):
        layer = kind(6, 3, kernel_initializer=keras.initializers.HeNormal(seed=1), **settings)
        results.append(ops.convert_to_numpy(layer(x)))
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends have one order in memory")
def test_the_channels_stay_last_in_memory():
    for stride in (1, 2):
        assert Conv2D(4, 3, stride, padding="same")(ops.ones((2, 8, 8, 5))).is_contiguous()
