import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from kapp.layers import compiled_ops, max_pooling
from kapp.layers.batch_normalization import BatchNormalization
from kapp.layers.max_pooling import MaxPooling2D, max_pool_tiles

ON_TORCH = keras.backend.backend() == "torch"


@pytest.mark.parametrize("settings", [(2, 2), (3, 2), (2, 1), (3, 2, "same")])
@pytest.mark.parametrize("side", [7, 8])
def test_outputs_are_those_of_keras(settings, side):
    x = np.random.default_rng(0).normal(size=(3, side, side, 5)).astype("float32")
    layers = MaxPooling2D(*settings), keras.layers.MaxPooling2D(*settings)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(layer(x)) for layer in layers))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="its compiler compiles pooling")
def test_the_first_maximum_of_a_tile_receives_the_gradient():
    random = np.random.default_rng(1)
    x = random.integers(0, 3, (2, 4, 6, 5)).astype("float32")  # many equal values
    pooled = max_pool_tiles(ops.convert_to_tensor(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(pooled), ops.convert_to_numpy(ops.max_pool(x, 2)))
    dy = random.normal(size=pooled.shape).astype("float32")
    _, position = max_pooling._max_and_position(ops.convert_to_tensor(x))
    gradient = ops.convert_to_numpy(max_pooling._max_gradient(ops.convert_to_tensor(dy), position))
    expected = np.zeros_like(x)
    for n, i, j, c in np.ndindex(dy.shape):
        tile = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        di, dj = np.unravel_index(tile.argmax(), (2, 2))
        expected[n, 2 * i + di, 2 * j + dj, c] = dy[n, i, j, c]
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.skipif(not ON_TORCH, reason="other backends have one memory order")
def test_channels_stay_last_in_memory():
    assert MaxPooling2D(2)(ops.ones((2, 8, 8, 5))).is_contiguous()


@pytest.mark.skipif(not ON_TORCH, reason="only its custom gradients can keep tensors alive")
def test_no_tensor_outlives_its_step(monkeypatch, request):
    monkeypatch.setattr(compiled_ops, "MIN_SIZE", 0)
    normalize, pool = BatchNormalization(fuse_relu=True), MaxPooling2D(2)
    tensors = []
    gc.collect()
    gc.disable()  # a step must free its memory without the collector
    request.addfinalizer(gc.enable)
    for _ in range(3):
        x = ops.convert_to_tensor(np.ones((4, 8, 8, 3), "float32")).requires_grad_()
        batch_norm = normalize(x, training=True)
        pooled = pool(batch_norm)
        pooled.sum().backward()
        tensors += [weakref.ref(tensor) for tensor in (x, batch_norm, pooled)]
    del x, batch_norm, pooled
    assert [tensor() for tensor in tensors] == [None] * 9
