"""The distillation losses against formulas in NumPy, float64, and in their limits."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kapp.papers.distillation import TEMPERATURES
from kapp.training.distillation_losses import LOSSES, cross_entropy, get, kl, logit_mse, prob_mse, standardize
from tests.training.helpers import to_numpy

LABELS = np.array([2, 0, 3])
logits = arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32))


def softmax(z):
    exponentials = np.exp(z - z.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def divergence(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def of_label(values, labels):
    return values[np.arange(len(labels)), labels]


def others(z, labels):
    """The logits (n, classes - 1) of the classes that aren't the label's."""
    return np.stack([np.delete(row, label) for row, label in zip(z, labels)])


def plain_prob_mse(labels, t, s):
    return ((softmax(t) - softmax(s)) ** 2).mean(axis=-1)


def plain_logit_mse(labels, t, s):
    return ((t - s) ** 2).mean(axis=-1)


def plain_kl(labels, t, s, temperature=4.0):
    return temperature**2 * divergence(log_softmax(t / temperature), log_softmax(s / temperature))


def plain_dkd(labels, t, s, temperature=4.0, alpha=1.0, beta=8.0):
    t, s = t / temperature, s / temperature
    binary = []
    for z in (t, s):
        log_p = log_softmax(z)
        rest = np.log(np.exp(others(log_p, labels)).sum(axis=-1))
        binary.append(np.stack([of_label(log_p, labels), rest], axis=-1))
    among_others = divergence(log_softmax(others(t, labels)), log_softmax(others(s, labels)))
    return temperature**2 * (alpha * divergence(*binary) + beta * among_others)


def plain_nkd(labels, t, s, temperature=1.0, gamma=1.5):
    target = -of_label(softmax(t), labels) * of_label(log_softmax(s), labels)
    p, log_q = softmax(others(t, labels) / temperature), log_softmax(others(s, labels) / temperature)
    return target - gamma * temperature**2 * (p * log_q).sum(axis=-1)


def plain_dist(labels, t, s, temperature=1.0):
    p, q = softmax(t / temperature), softmax(s / temperature)
    per_sample = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    per_class = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    return temperature**2 * (per_sample + per_class.mean())


PLAIN = {
    "prob_mse": plain_prob_mse,
    "logit_mse": plain_logit_mse,
    "kl": plain_kl,
    "dkd": plain_dkd,
    "nkd": plain_nkd,
    "dist": plain_dist,
}


def test_each_loss_has_a_formula_here():
    assert [*PLAIN] == [*LOSSES]


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "dist"])
@given(teacher=logits, student=logits)
@settings(max_examples=50)
def test_one_value_per_sample(name, teacher, student):
    result = to_numpy(LOSSES[name](LABELS, teacher, student))
    assert result.shape == (3,)
    expected = PLAIN[name](LABELS, teacher.astype(float), student.astype(float))
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_is_the_correlation_over_classes_and_batch(temperature):
    random = np.random.default_rng(0)  # correlations of almost constant columns depend on rounding
    t, s = random.normal(scale=2, size=(2, 6, 5))
    result = to_numpy(LOSSES["dist"](None, t.astype("float32"), s.astype("float32"), temperature))
    np.testing.assert_allclose(result, plain_dist(None, t, s, temperature), rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("standardized", [False, True])
def test_gradients_are_those_of_the_formula(name, standardized):
    """Against central differences in float64, of the mean over a batch."""
    random = np.random.default_rng(1)
    t, s = random.normal(scale=3, size=(2, 3, 4))
    labels = LABELS

    def plain(s):
        pair = [(z - z.mean(-1, keepdims=True)) / z.std(-1, ddof=1, keepdims=True) for z in (t, s)]
        return PLAIN[name](labels, *(pair if standardized else (t, s))).mean()

    expected = np.zeros_like(s)
    for index in np.ndindex(s.shape):
        above, below = s.copy(), s.copy()
        above[index] += 1e-6
        below[index] -= 1e-6
        expected[index] = (plain(above) - plain(below)) / 2e-6
    loss = get(name, standardize_logits=standardized)
    result = gradient(lambda z: keras.ops.mean(loss(labels, t.astype("float32"), z)), s.astype("float32"))
    np.testing.assert_allclose(result, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


def gradient(function, z):
    """The gradient of `function`, on the backend of this process."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(z := tf.constant(z))
                value = function(z)
            return tape.gradient(value, z).numpy()
        case "jax":
            import jax

            return np.asarray(jax.grad(function)(z))
        case _:
            import torch

            z = torch.tensor(z, requires_grad=True)
            function(z).backward()
            return z.grad.numpy()


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("nkd", "dist")])
@given(z=logits)
@settings(max_examples=25)
def test_equal_logits_have_loss_0(name, z):
    np.testing.assert_allclose(to_numpy(LOSSES[name](LABELS, z, z)), 0, atol=1e-5)


def test_at_a_high_temperature_kl_is_half_the_squared_difference_of_centered_logits():
    """Hinton et al. 2015, section 2.1: (1 / 2N) sum over N classes."""
    random = np.random.default_rng(0)
    t, s = (random.normal(size=(5, 10)).astype("float32") for _ in range(2))
    centered = (t - t.mean(1, keepdims=True)) - (s - s.mean(1, keepdims=True))
    limit = (centered**2).sum(1) / (2 * 10)
    np.testing.assert_allclose(to_numpy(kl(None, t, s, temperature=100.0)), limit, rtol=0.03)


def test_prob_mse_ignores_a_shift_of_the_logits_and_logit_mse_does_not():
    z = np.array([[1.0, 2.0, 3.0]], "float32")
    assert to_numpy(prob_mse(None, z, z + 5))[0] == pytest.approx(0, abs=1e-10)
    assert to_numpy(logit_mse(None, z, z + 5))[0] == pytest.approx(25)


def test_decoupled_distillation_contains_kl():
    """Zhao et al. 2022, equation 6: beta is the teacher's probability of the other classes."""
    t, s = np.random.default_rng(2).normal(scale=3, size=(2, 1, 4)).astype("float32")
    rest = 1 - softmax(t[0] / 4.0)[LABELS[0]]
    decoupled = LOSSES["dkd"](LABELS[:1], t, s, temperature=4.0, alpha=1.0, beta=float(rest))
    np.testing.assert_allclose(to_numpy(decoupled), to_numpy(kl(None, t, s, temperature=4.0)), rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_huge_and_constant_logits_stay_finite(name, standardized, dtype):
    huge = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]], "float32")
    labels, loss = np.array([0, 0, 1]), get(name, standardize_logits=standardized)
    teacher = keras.ops.cast(-huge, dtype)

    def mean(z):
        value = loss(labels, teacher, keras.ops.cast(z, dtype))
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        return keras.ops.mean(value)

    assert np.isfinite(to_numpy(mean(huge)))
    assert np.isfinite(gradient(mean, huge)).all()


def test_cross_entropy_is_minus_the_logarithm_of_the_labels_probability():
    z = np.array([[2.0, 1.0, 0.1], [0.0, 0.0, 0.0]], "float32")
    expected = [-math.log(softmax(z[0])[2]), math.log(3)]
    np.testing.assert_allclose(to_numpy(cross_entropy(np.array([2, 1]), z)), expected, rtol=1e-5)
    assert np.isfinite(to_numpy(cross_entropy(np.array([1]), np.array([[1e4, -1e4]], "float32")))).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_temperature_is_that_of_the_losses_that_have_one(name):
    t, s = np.random.default_rng(3).normal(size=(2, 3, 4)).astype("float32")
    at_two, default = (to_numpy(get(name, temperature)(LABELS, t, s)) for temperature in (2.0, None))
    if name in TEMPERATURES:
        np.testing.assert_allclose(at_two, PLAIN[name](LABELS, t, s, temperature=2.0), rtol=1e-4)
        np.testing.assert_allclose(default, to_numpy(get(name, TEMPERATURES[name])(LABELS, t, s)))
    else:
        np.testing.assert_array_equal(at_two, default)


def test_standardized_logits_have_mean_0_and_deviation_1():
    z = np.random.default_rng(4).normal(3.0, 7.0, size=(5, 10)).astype("float32")
    result = to_numpy(standardize(z))
    np.testing.assert_allclose(result.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(axis=1, ddof=1), 1, rtol=1e-5)
