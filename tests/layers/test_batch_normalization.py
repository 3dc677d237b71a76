import keras
import numpy as np
import pytest
from keras import ops

from kapp.layers import compiled_ops
from kapp.layers.batch_normalization import BatchNormalization
from kapp.layers.relu import ReLU

ON_JAX = keras.backend.backend() == "jax"
SETTINGS = {"momentum": 0.9, "epsilon": 1e-5}


def build(layer: keras.layers.BatchNormalization, channels: int = 7) -> keras.layers.Layer:
    if not layer.built:
        layer.build((None, channels))
    if layer.scale:
        layer.gamma.assign(np.linspace(-0.5, 1.5, channels))
    layer.beta.assign(np.linspace(-1, 1, channels))
    return layer


def fused_pair() -> tuple[BatchNormalization, ReLU]:
    batch_norm = build(BatchNormalization(**SETTINGS, fuse_relu=True))
    return batch_norm, ReLU(batch_norm=batch_norm)


def random_inputs(shape=(32, 7), mean=0.0) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, 2, shape).astype("float32")


def outputs_and_state(
    layers: list[keras.layers.Layer], x: np.ndarray, target: np.ndarray
) -> list[np.ndarray]:
    """Outputs of `layers` in inference and in training, and the variables after a step of SGD."""
    inputs = keras.Input(x.shape[1:])
    outputs = keras.layers.Dense(x.shape[-1], kernel_initializer="identity", dtype="float32")(inputs)
    for layer in layers:
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs)
    build(layers[0], x.shape[-1])
    results = [model(x, training=training) for training in (False, True)]
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, target)
    return [ops.convert_to_numpy(ops.cast(each, "float32")) for each in (*results, *model.variables)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("min_size", [0, compiled_ops.MIN_SIZE])
@pytest.mark.parametrize("shape", [(16, 6, 5, 7), (32, 7)])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_outputs_gradients_and_statistics_are_those_of_keras(shape, policy, min_size, relu, monkeypatch):
    monkeypatch.setattr(compiled_ops, "MIN_SIZE", min_size)
    x = random_inputs(shape, mean=100)  # far from 0, where E[x^2] - E[x]^2 would fail
    target = np.random.default_rng(1).normal(size=shape).astype("float32")
    keras.config.set_dtype_policy(policy)
    try:
        batch_norm = BatchNormalization(**SETTINGS, fuse_relu=relu)
        ours = outputs_and_state([batch_norm, ReLU(batch_norm=batch_norm)][: 1 + relu], x, target)
        theirs = [keras.layers.BatchNormalization(**SETTINGS), keras.layers.ReLU()][: 1 + relu]
        expected = outputs_and_state(theirs, x, target)
    finally:
        keras.config.set_dtype_policy("float32")
    tolerance = 1e-3 if policy == "float32" else 0.02
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("min_size", [0, compiled_ops.MIN_SIZE])
def test_without_a_scale_it_is_that_of_keras(min_size, monkeypatch):
    monkeypatch.setattr(compiled_ops, "MIN_SIZE", min_size)
    x, target = random_inputs((16, 6, 5, 7)), random_inputs((16, 6, 5, 7), mean=1.0)
    settings = {"momentum": 0.6, "epsilon": 1e-12, "scale": False}
    ours = outputs_and_state([BatchNormalization(**settings)], x, target)
    expected = outputs_and_state([keras.layers.BatchNormalization(**settings)], x, target)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(ON_JAX, reason="its compiler fuses ReLU")
def test_relu_is_fused_in_training_only(monkeypatch):
    monkeypatch.setattr(compiled_ops, "MIN_SIZE", 0)
    batch_norm, relu = fused_pair()
    x = random_inputs()
    training, inference = batch_norm(x, training=True), batch_norm(x)
    assert relu(training, training=True) is training
    assert ops.convert_to_numpy(training).min() == 0
    assert ops.convert_to_numpy(inference).min() < 0
    assert ops.convert_to_numpy(relu(inference)).min() == 0


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("mask", [None, np.ones(32, bool)])
@pytest.mark.parametrize("min_size", [0, compiled_ops.MIN_SIZE])
@pytest.mark.parametrize("training", [True, False])
def test_relu_is_always_applied(training, min_size, mask, trainable, monkeypatch):
    monkeypatch.setattr(compiled_ops, "MIN_SIZE", min_size)
    batch_norm, relu = fused_pair()
    batch_norm.trainable = trainable
    expected = build(keras.layers.BatchNormalization(**SETTINGS, trainable=trainable))
    x = random_inputs()
    outputs = relu(batch_norm(x, training=training, mask=mask), training=training)
    normalized = expected(x, training=training, mask=mask)
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), ops.convert_to_numpy(ops.relu(normalized)), rtol=1e-4, atol=1e-4
    )


def test_a_model_with_fused_relu_is_saved_as_keras_layers(tmp_path):
    inputs = keras.Input((7,))
    batch_norm = BatchNormalization(**SETTINGS, fuse_relu=True)
    model = keras.Model(inputs, ReLU(batch_norm=batch_norm)(batch_norm(inputs)))
    build(batch_norm)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert [type(layer) for layer in loaded.layers[1:]] == [
        keras.layers.BatchNormalization,
        keras.layers.ReLU,
    ]
    assert len(model.weights) == len(loaded.weights) == 4  # ReLU has no weights of its own
    x = random_inputs()
    np.testing.assert_allclose(*(ops.convert_to_numpy(each(x)) for each in (model, loaded)), rtol=1e-6)


def test_a_frozen_layer_keeps_its_statistics():
    layer = build(BatchNormalization(**SETTINGS))
    layer.trainable = False
    gamma, beta, *statistics = [ops.convert_to_numpy(variable) for variable in layer.variables]
    x = random_inputs(mean=3)
    outputs = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(outputs, gamma * x / np.sqrt(1 + 1e-5) + beta, rtol=1e-5, atol=1e-5)
    for before, after in zip(statistics, layer.variables[2:], strict=True):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(after))


@pytest.mark.parametrize("settings", [{"center": False}, {"axis": 1}])
def test_other_settings_use_the_keras_layer(settings):
    x = random_inputs((8, 7, 7), mean=3)
    layers = BatchNormalization(**settings), keras.layers.BatchNormalization(**settings)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(layer(x, training=True)) for layer in layers))
