import functools

import keras
import numpy as np
import pytest
from keras import ops

from kapp.models import loops
from kapp.models.normalisation import BatchNormalization
from kapp.models.rectification import ReLU

SHAPES = [(16, 6, 5, 7), (32, 7)]


def normalisation(kind, channels: int = 7, **settings) -> keras.layers.Layer:
    layer = kind(momentum=0.9, epsilon=1e-5, **settings)
    layer.build((None, channels))
    layer.gamma.assign(np.linspace(-0.5, 1.5, channels))
    layer.beta.assign(np.linspace(-1, 1, channels))
    return layer


def trained(kind, relu, x: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
    """What a layer, and ReLU after it, give in training and, after a step along their gradients, what they
    have become."""
    inputs = keras.Input(x.shape[1:])
    shift = keras.layers.Dense(x.shape[-1], kernel_initializer="identity", dtype="float32")
    layer = kind(momentum=0.9, epsilon=1e-5)
    outputs = layer(shift(inputs))
    model = keras.Model(inputs, relu()(outputs) if relu else outputs)
    layer.gamma.assign(np.linspace(-0.5, 1.5, x.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, x.shape[-1]))
    in_use, outputs = (
        ops.convert_to_numpy(ops.cast(model(x, training=training), "float32")) for training in (False, True)
    )
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, target)
    return [outputs, in_use, *(ops.convert_to_numpy(variable) for variable in model.variables)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("large", [0, loops.LARGE])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_it_is_keras_own_in_outputs_gradients_and_statistics(shape, policy, large, relu, monkeypatch):
    monkeypatch.setattr(loops, "LARGE", large)
    random = np.random.default_rng(0)
    x = random.normal(100, 2, shape).astype("float32")  # a mean far from 0: where E[x^2] - E[x]^2 would fail
    target = random.normal(size=shape).astype("float32")
    keras.config.set_dtype_policy(policy)
    try:
        own = functools.partial(BatchNormalization, before_relu=relu)
        ours = trained(own, relu and ReLU, x, target)
        theirs = trained(keras.layers.BatchNormalization, relu and keras.layers.ReLU, x, target)
    finally:
        keras.config.set_dtype_policy("float32")
    tolerance = 1e-3 if policy == "float32" else 0.02
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="its compiler does it")
def test_relu_has_nothing_left_to_do_in_training(monkeypatch):
    monkeypatch.setattr(loops, "LARGE", 0)
    layer, relu = normalisation(functools.partial(BatchNormalization, before_relu=True)), ReLU()
    x = np.random.default_rng(3).normal(size=(32, 7)).astype("float32")
    in_training, in_use = layer(x, training=True), layer(x)
    assert relu(in_training) is in_training
    assert ops.convert_to_numpy(in_training).min() == 0
    assert ops.convert_to_numpy(in_use).min() < 0
    assert ops.convert_to_numpy(relu(in_use)).min() == 0


def test_a_frozen_one_keeps_its_statistics():
    layer = normalisation(BatchNormalization)
    layer.trainable = False
    before = [ops.convert_to_numpy(variable) for variable in layer.variables]
    x = np.random.default_rng(1).normal(3, 2, (8, 7)).astype("float32")
    outputs = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(outputs, before[0] * x / np.sqrt(1 + 1e-5) + before[1], rtol=1e-5, atol=1e-5)
    for old, variable in zip(before, layer.variables):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"axis": 1}])
def test_settings_that_it_has_no_way_for_are_left_to_keras(settings):
    x = np.random.default_rng(2).normal(3, 2, (8, 7, 7)).astype("float32")
    outputs = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        layer = kind(**settings)
        outputs.append(ops.convert_to_numpy(layer(x, training=True)))
    np.testing.assert_array_equal(*outputs)
