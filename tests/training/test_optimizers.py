import keras
import numpy as np
import pytest

from kapp.training import optimizers


def rates(schedule) -> list[float]:
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in range(101)]


def test_cosine_rises_over_the_warm_up_and_falls_to_zero():
    optimizer = optimizers.make("sgd", 0.5, schedule="cosine", steps=100, warmup_steps=20)
    seen = rates(optimizer._learning_rate)
    np.testing.assert_allclose(seen[:21], np.linspace(0, 0.5, 21), atol=1e-6)
    expected = 0.25 * (1 + np.cos(np.pi * np.arange(81) / 80))
    np.testing.assert_allclose(seen[20:], expected, atol=1e-6)


def test_a_constant_rate_stays():
    assert float(optimizers.make("adam", 0.01).learning_rate) == pytest.approx(0.01)


def test_weight_decay_shrinks_kernels_and_leaves_the_rest():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.bias.assign([1.0, 1.0])
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    optimizer = optimizers.make("adamw", 0.1, weight_decay=0.5)
    optimizer.build(layer.trainable_variables)
    optimizer.apply([keras.ops.zeros((3, 2)), keras.ops.zeros((2,))], layer.trainable_variables)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.kernel), kernel * (1 - 0.05), rtol=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.bias), 1.0)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="adam, adamw or sgd"):
        optimizers.make("lion", 0.1)
