import keras
import numpy as np
import pytest
from keras import ops

from kapp.models.dropout import Dropout

SHAPE = (100, 33, 31)


def dropped(layer: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(layer(ops.convert_to_tensor(x), training=True), "float32"))


@pytest.mark.parametrize("rate", [0.2, 0.37, 0.5])
def test_it_drops_its_share_and_keeps_the_mean(rate):
    x = np.random.default_rng(0).uniform(1, 2, SHAPE).astype("float32")
    outputs = dropped(Dropout(rate, seed=1), x)
    lost = outputs == 0
    assert lost.mean() == pytest.approx(rate, abs=4 * (rate / x.size) ** 0.5)
    np.testing.assert_allclose(outputs[~lost], x[~lost] / (1 - rate), rtol=1e-5)


def test_each_place_and_each_call_is_another_coin():
    layer = Dropout(0.5, seed=2)
    first, second = (dropped(layer, np.ones(SHAPE, "float32")) > 0 for _ in range(2))
    spread = 4 * 0.5 / first.size**0.5
    assert (first & second).mean() == pytest.approx(0.25, abs=spread)
    for axis in range(3):
        assert (first & np.roll(first, 1, axis)).mean() == pytest.approx(0.25, abs=spread)


def test_the_same_seed_drops_the_same():
    x = np.ones(SHAPE, "float32")
    np.testing.assert_array_equal(dropped(Dropout(0.3, seed=3), x), dropped(Dropout(0.3, seed=3), x))
    assert (dropped(Dropout(0.3, seed=3), x) != dropped(Dropout(0.3, seed=4), x)).any()


def test_it_does_nothing_outside_of_training():
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(Dropout(0.5, seed=0)(x)), x)
    np.testing.assert_array_equal(dropped(Dropout(0.0, seed=0), x), x)
