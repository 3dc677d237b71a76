import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from kapp.models import loops, max_pooling
from kapp.models.max_pooling import MaxPooling2D, tiles_pooled
from kapp.models.normalisation import BatchNormalization


@pytest.mark.parametrize("settings", [(2, 2), (3, 2), (2, 1), (3, 2, "same")])
@pytest.mark.parametrize("side", [7, 8])
def test_it_is_keras_own(settings, side):
    x = np.random.default_rng(0).normal(size=(3, side, side, 5)).astype("float32")
    ours, keras_own = (kind(*settings) for kind in (MaxPooling2D, keras.layers.MaxPooling2D))
    np.testing.assert_array_equal(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(keras_own(x)))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="its compiler does it")
def test_compiled_tiles_are_keras_own_and_give_the_first_of_equals_its_gradient():
    random = np.random.default_rng(1)
    x = random.integers(0, 3, (2, 4, 6, 5)).astype("float32")  # many equals
    pooled = tiles_pooled(ops.convert_to_tensor(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(pooled), ops.convert_to_numpy(ops.max_pool(x, 2)))
    dy = random.normal(size=pooled.shape).astype("float32")
    _, place = max_pooling._greatest(ops.convert_to_tensor(x))
    gradient = ops.convert_to_numpy(max_pooling._spread(ops.convert_to_tensor(dy), place))
    expected = np.zeros_like(x)
    for n, i, j, c in np.ndindex(dy.shape):
        tile = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        di, dj = np.unravel_index(tile.argmax(), (2, 2))
        expected[n, 2 * i + di, 2 * j + dj, c] = dy[n, i, j, c]
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), expected)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends have one order in memory")
def test_the_channels_stay_last_in_memory():
    assert MaxPooling2D(2)(ops.ones((2, 8, 8, 5))).is_contiguous()


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="its custom gradients could hold their maps")
def test_no_map_outlives_its_step(monkeypatch, request):
    monkeypatch.setattr(loops, "LARGE", 0)
    normalise, pool = BatchNormalization(before_relu=True), MaxPooling2D(2)
    maps = []
    gc.collect()
    gc.disable()  # a collector that comes by in time is no help when a step's maps fill the memory
    request.addfinalizer(gc.enable)
    for _ in range(3):
        x = ops.convert_to_tensor(np.ones((4, 8, 8, 3), "float32")).requires_grad_()
        normalised = normalise(x, training=True)
        pooled = pool(normalised)
        pooled.sum().backward()
        maps += [weakref.ref(each) for each in (x, normalised, pooled)]
    del x, normalised, pooled
    assert [each() for each in maps] == [None] * 9
