"""The distillation losses against plain Python, one sample at a time, and in their limits."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kapp.training.distillation_losses import cross_entropy, get, kl, logit_mse, prob_mse
from tests.training.helpers import to_numpy

logits = arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32))


def softmax(z):
    exponentials = [math.exp(v - max(z)) for v in z]
    return [e / sum(exponentials) for e in exponentials]


def plain_prob_mse(t, s):
    return sum((p - q) ** 2 for p, q in zip(softmax(t), softmax(s))) / len(t)


def plain_logit_mse(t, s):
    return sum((a - b) ** 2 for a, b in zip(t, s)) / len(t)


def plain_kl(t, s, temperature=4.0):
    p, q = softmax(t / temperature), softmax(s / temperature)
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q))


@pytest.mark.parametrize(
    ("distillation_loss", "plain"), [(prob_mse, plain_prob_mse), (logit_mse, plain_logit_mse), (kl, plain_kl)]
)
@given(teacher=logits, student=logits)
@settings(deadline=None, max_examples=50)
def test_one_value_per_sample(distillation_loss, plain, teacher, student):
    result = to_numpy(distillation_loss(teacher, student))
    assert result.shape == (3,)
    expected = [plain(t.astype(float), s.astype(float)) for t, s in zip(teacher, student)]
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("distillation_loss", [prob_mse, logit_mse, kl])
@given(z=logits)
@settings(deadline=None, max_examples=25)
def test_equal_logits_have_loss_0(distillation_loss, z):
    np.testing.assert_allclose(to_numpy(distillation_loss(z, z)), 0, atol=1e-6)


def test_a_known_kl():
    """T^2 KL of [2, 1, 0.1] and [0.5, 2, 1] at T = 2."""
    t, s = np.array([[2.0, 1.0, 0.1]], "float32"), np.array([[0.5, 2.0, 1.0]], "float32")
    p, q = softmax(t[0] / 2), softmax(s[0] / 2)
    expected = 4 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q))
    assert to_numpy(kl(t, s, temperature=2.0))[0] == pytest.approx(expected, rel=1e-5)


def test_at_a_high_temperature_kl_is_half_the_squared_difference_of_centered_logits():
    """Hinton et al. 2015, section 2.1: (1 / 2N) sum over N classes."""
    random = np.random.default_rng(0)
    t, s = (random.normal(size=(5, 10)).astype("float32") for _ in range(2))
    centered = (t - t.mean(1, keepdims=True)) - (s - s.mean(1, keepdims=True))
    limit = (centered**2).sum(1) / (2 * 10)
    np.testing.assert_allclose(to_numpy(kl(t, s, temperature=100.0)), limit, rtol=0.03)


def test_prob_mse_ignores_a_shift_of_the_logits_and_logit_mse_does_not():
    z = np.array([[1.0, 2.0, 3.0]], "float32")
    assert to_numpy(prob_mse(z, z + 5))[0] == pytest.approx(0, abs=1e-10)
    assert to_numpy(logit_mse(z, z + 5))[0] == pytest.approx(25)


@pytest.mark.parametrize("distillation_loss", [prob_mse, kl, cross_entropy])
def test_huge_logits_stay_finite(distillation_loss):
    huge = np.array([[1e4, -1e4, 0.0]], "float32")
    first = np.array([1]) if distillation_loss is cross_entropy else -huge
    assert np.isfinite(to_numpy(distillation_loss(first, huge))).all()


def test_cross_entropy_is_minus_the_logarithm_of_the_labels_probability():
    z = np.array([[2.0, 1.0, 0.1], [0.0, 0.0, 0.0]], "float32")
    expected = [-math.log(softmax(z[0])[2]), math.log(3)]
    np.testing.assert_allclose(to_numpy(cross_entropy(np.array([2, 1]), z)), expected, rtol=1e-5)


def test_bfloat16_logits_are_compared_in_float32():
    z = keras.ops.cast(np.array([[1.0, 2.0]], "float32"), "bfloat16")
    assert keras.backend.standardize_dtype(prob_mse(z, z).dtype) == "float32"


def test_only_kl_has_a_temperature():
    t, s = np.array([[2.0, 1.0]], "float32"), np.array([[0.0, 1.0]], "float32")
    assert to_numpy(get("kl", 2.0)(t, s))[0] == pytest.approx(plain_kl(t[0], s[0], 2.0), rel=1e-5)
    assert to_numpy(get("prob_mse", 2.0)(t, s))[0] == pytest.approx(plain_prob_mse(t[0], s[0]), rel=1e-5)
