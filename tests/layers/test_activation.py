import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import ndtr

from kapp.layers import compiled_ops
from kapp.layers.activation import Activation, compiled_gelu


def outputs_and_step(layer: keras.layers.Layer, x: np.ndarray) -> list[np.ndarray]:
    """Outputs in training, and a kernel after a step of SGD through the layer."""
    inputs = keras.Input(x.shape[1:])
    dense = keras.layers.Dense(x.shape[-1], kernel_initializer="identity", dtype="float32")
    model = keras.Model(inputs, layer(dense(inputs)))
    outputs = ops.convert_to_numpy(ops.cast(model(x, training=True), "float32"))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, np.zeros_like(x))
    return [outputs, ops.convert_to_numpy(dense.kernel)]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_outputs_and_gradients_are_those_of_keras(policy, monkeypatch):
    monkeypatch.setattr(compiled_ops, "MIN_SIZE", 0)
    x = np.random.default_rng(0).normal(0, 2, (16, 6, 5, 7)).astype("float32")
    keras.config.set_dtype_policy(policy)
    try:
        ours = outputs_and_step(Activation("gelu"), x)
        expected = outputs_and_step(keras.layers.Activation("gelu"), x)
    finally:
        keras.config.set_dtype_policy("float32")
    tolerance = 1e-5 if policy == "float32" else 0.03
    np.testing.assert_allclose(ours[0], x * ndtr(x), rtol=tolerance, atol=tolerance)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_the_compiled_function_is_the_same_far_from_0():
    x = np.array([-1e4, -20, -3, 0, 3, 20, 1e4], "float32")
    outputs = ops.convert_to_numpy(compiled_gelu(ops.convert_to_tensor(x)))
    assert (np.abs(outputs - x * ndtr(x)) <= 1e-6 + 2e-7 * np.abs(x)).all()  # of float32


def test_other_activations_are_those_of_keras():
    assert float(Activation("relu")(ops.convert_to_tensor([-1.0]), training=True)[0]) == 0
