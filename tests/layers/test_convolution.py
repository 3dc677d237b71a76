import keras
import numpy as np
import pytest
from keras import ops

from kapp.layers.convolution import Conv2D


def outputs(shape: tuple, *args, **settings) -> list[np.ndarray]:
    """Outputs of kapp's layer and of Keras's, with the same weights."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layers = [
        layer_class(*args, kernel_initializer=keras.initializers.HeNormal(seed=1), **settings)
        for layer_class in (Conv2D, keras.layers.Conv2D)
    ]
    return [ops.convert_to_numpy(layer(x)) for layer in layers]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("side", [7, 8])
def test_outputs_are_those_of_keras(side, kernel, stride, padding):
    np.testing.assert_allclose(
        *outputs((2, side, side + 1, 3), 5, kernel, stride, padding), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("settings", [{"groups": 3}, {"dilation_rate": 2}])
def test_other_settings_use_the_keras_layer(settings):
    np.testing.assert_array_equal(*outputs((2, 9, 9, 3), 6, 3, **settings))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends have one memory order")
@pytest.mark.parametrize("stride", [1, 2])
def test_channels_stay_last_in_memory(stride):
    assert Conv2D(4, 3, stride, padding="same")(ops.ones((2, 8, 8, 5))).is_contiguous()
