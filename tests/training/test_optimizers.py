import keras
import numpy as np
import pytest

from kapp.errors import ConfigError
from kapp.papers.hparams import HParams
from kapp.training import optimizers
from tests.training.helpers import to_numpy


def build(optimizer="sgd", rate=0.1, epochs=1, steps_per_epoch=1, reset_momentum=False, **settings):
    hparams = HParams(epochs, 1, optimizer, rate, **{"momentum": 0.0, **settings})
    return optimizers.build(hparams, steps_per_epoch, reset_momentum)


def rates(optimizer, steps: int) -> list[float]:
    return [float(to_numpy(optimizer._learning_rate(step))) for step in range(steps)]


def dense() -> keras.layers.Layer:
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.bias.assign([1.0, 1.0])
    return layer


def test_cosine_rises_in_the_warmup_and_falls_to_zero():
    optimizer = build(rate=0.5, epochs=10, steps_per_epoch=10, schedule="cosine", warmup_epochs=2)
    found = rates(optimizer, 101)
    np.testing.assert_allclose(found[:21], np.linspace(0, 0.5, 21), atol=1e-6)
    expected = 0.25 * (1 + np.cos(np.pi * np.arange(81) / 80))
    np.testing.assert_allclose(found[20:], expected, atol=1e-6)


def test_a_constant_rate():
    assert float(build("adam", 0.01).learning_rate) == pytest.approx(0.01)


def test_the_multistep_rate_falls_to_a_tenth_at_the_first_step_after_each_milestone():
    optimizer = build(rate=0.5, steps_per_epoch=10, schedule="multistep", milestones=(2, 3))
    np.testing.assert_allclose(rates(optimizer, 40), [0.5] * 20 + [0.05] * 10 + [0.005] * 10, rtol=1e-6)


def test_multistep_rates_may_be_set():
    four = (0.025, 0.01, 0.005, 0.001)  # Hu 2018, table 3
    optimizer = build(steps_per_epoch=2, schedule="multistep", milestones=(1, 2, 3), rates=four)
    np.testing.assert_allclose(rates(optimizer, 8), np.repeat(four, 2), rtol=1e-6)


def test_sgd_is_that_of_pytorch():
    """Against the formulas of torch.optim.SGD: v = momentum v + (gradient + decay w); w = w - rate v."""
    layer, random = dense(), np.random.default_rng(0)
    optimizer = build(rate=0.1, momentum=0.9, weight_decay=0.5)
    kernel, bias = to_numpy(layer.kernel).astype(float), to_numpy(layer.bias).astype(float)
    v_kernel, v_bias = np.zeros((3, 2)), np.zeros(2)
    for _ in range(4):
        kernel_gradient, bias_gradient = random.normal(size=(3, 2)), random.normal(size=2)
        v_kernel = 0.9 * v_kernel + kernel_gradient + 0.5 * kernel
        v_bias = 0.9 * v_bias + bias_gradient
        kernel, bias = kernel - 0.1 * v_kernel, bias - 0.1 * v_bias
        gradients = [keras.ops.convert_to_tensor(g, "float32") for g in (kernel_gradient, bias_gradient)]
        optimizer.apply(gradients, layer.trainable_variables)
    np.testing.assert_allclose(to_numpy(layer.kernel), kernel, rtol=1e-4)
    np.testing.assert_allclose(to_numpy(layer.bias), bias, rtol=1e-4)


def test_sgd_can_start_each_epoch_without_momentum():
    layer = dense()
    optimizer = build(rate=0.1, momentum=0.9, steps_per_epoch=2, reset_momentum=True)
    gradients = [keras.ops.ones((3, 2)), keras.ops.ones((2,))]
    moved = []
    for _ in range(4):
        before = to_numpy(layer.bias).copy()
        optimizer.apply(gradients, layer.trainable_variables)
        moved.append(float((before - to_numpy(layer.bias))[0]))
    np.testing.assert_allclose(moved, [0.1, 0.19, 0.1, 0.19], rtol=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_decoupled_decay_shrinks_kernels_only(name):
    layer = dense()
    kernel = to_numpy(layer.kernel)
    optimizer = build(name, 0.1, weight_decay=0.5)
    optimizer.build(layer.trainable_variables)
    optimizer.apply([keras.ops.zeros((3, 2)), keras.ops.zeros((2,))], layer.trainable_variables)
    np.testing.assert_allclose(to_numpy(layer.kernel), kernel * (1 - 0.05), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.bias), 1.0)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ConfigError, match="unknown optimizer 'adan'. Did you mean 'adam'"):
        build("adan")
