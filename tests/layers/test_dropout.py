import numpy as np
import pytest
from keras import ops

from kapp.layers.dropout import Dropout

SHAPE = (100, 33, 31)
ONES = np.ones(SHAPE, "float32")


def drop(layer: Dropout, x: np.ndarray = ONES) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(layer(ops.convert_to_tensor(x), training=True), "float32"))


@pytest.mark.parametrize("rate", [0.2, 0.37, 0.5])
def test_the_rate_is_met_and_the_mean_is_kept(rate):
    x = np.random.default_rng(0).uniform(1, 2, SHAPE).astype("float32")
    outputs = drop(Dropout(rate, seed=1), x)
    dropped = outputs == 0
    assert dropped.mean() == pytest.approx(rate, abs=4 * (rate / x.size) ** 0.5)
    np.testing.assert_allclose(outputs[~dropped], x[~dropped] / (1 - rate), rtol=1e-5)


def test_positions_and_calls_are_independent():
    layer = Dropout(0.5, seed=2)
    first, second = drop(layer) > 0, drop(layer) > 0
    tolerance = 4 * 0.5 / first.size**0.5
    assert (first & second).mean() == pytest.approx(0.25, abs=tolerance)
    for axis in range(3):
        assert (first & np.roll(first, 1, axis)).mean() == pytest.approx(0.25, abs=tolerance)


def test_the_seed_determines_what_is_dropped():
    one, same, other = (drop(Dropout(0.3, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_inference_and_a_rate_of_zero_change_nothing():
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(Dropout(0.5, seed=0)(x)), x)
    np.testing.assert_array_equal(drop(Dropout(0.0, seed=0), x), x)
