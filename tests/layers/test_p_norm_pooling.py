import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from kapp.errors import ConfigError
from kapp.layers import PNormPooling2D


def pool_by_equation(f: np.ndarray, size: int, stride: int, p: float, same: bool) -> np.ndarray:
    """Equation 1 of Springenberg et al. 2014, one window after another."""
    n, height, width, channels = f.shape
    out = [-(-side // stride) if same else (side - size) // stride + 1 for side in (height, width)]
    pads = [max(0, (o - 1) * stride + size - side) if same else 0 for o, side in zip(out, (height, width))]
    s = np.zeros((n, *out, channels))
    for i, j in np.ndindex(*out):
        top, left = i * stride - pads[0] // 2, j * stride - pads[1] // 2
        rows = [r for r in range(top, top + size) if 0 <= r < height]
        columns = [c for c in range(left, left + size) if 0 <= c < width]
        window = np.abs(f[:, rows][:, :, columns].astype(float))
        s[:, i, j] = window.max(axis=(1, 2)) if p == math.inf else (window**p).sum(axis=(1, 2)) ** (1 / p)
    return s


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 10.0, math.inf])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(2, 2, "valid"), (3, 2, "valid"), (3, 2, "same"), (3, 1, "same")]
)
def test_outputs_are_those_of_equation_1(p, size, stride, padding):
    f = np.random.default_rng(0).normal(size=(2, 8, 7, 3)).astype("float32")
    layer = PNormPooling2D(size, stride, p, padding)
    result = keras.ops.convert_to_numpy(layer(f))
    np.testing.assert_allclose(result, pool_by_equation(f, size, stride, p, padding == "same"), rtol=1e-4)
    assert layer.compute_output_shape(f.shape) == result.shape


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_no_power_overflows_or_underflows(scale):
    f = np.random.default_rng(1).uniform(1, 2, (1, 4, 4, 2)).astype("float32")
    small = keras.ops.convert_to_numpy(PNormPooling2D(2, p=30.0)(f))
    large = keras.ops.convert_to_numpy(PNormPooling2D(2, p=30.0)(f * np.float32(scale)))
    np.testing.assert_allclose(large / scale, small, rtol=1e-4)


def test_p_1_is_the_sum_and_a_large_p_is_near_the_maximum():
    f = np.random.default_rng(2).uniform(0, 1, (1, 6, 6, 2)).astype("float32")
    maximum = keras.ops.convert_to_numpy(keras.layers.MaxPooling2D(2)(f))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(PNormPooling2D(2, p=200.0)(f)), maximum, rtol=0.01)
    mean = keras.ops.convert_to_numpy(keras.layers.AveragePooling2D(2)(f))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(PNormPooling2D(2, p=1.0)(f)), 4 * mean, rtol=1e-5)


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_the_gradient_of_a_window_of_zeros_is_finite(p):
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(2, 1, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Flatten()(PNormPooling2D(2, p=p)(x)))
    network.compile(keras.optimizers.SGD(0.1), "mse")
    images = np.zeros((3, 4, 4, 1), "float32")
    images[0, :2, :2] = 1.0
    network.fit(images, np.ones((3, 8)), epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in network.get_weights())


def test_gradients_are_those_of_equation_1():
    random = np.random.default_rng(3)
    f = random.normal(size=(1, 4, 4, 1)).astype("float32")
    inputs = keras.Input((4, 4, 1))
    scaled = keras.layers.Conv2D(1, 1, use_bias=False, name="scale")(inputs)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(PNormPooling2D(3, 1, 3.0)(scaled)))
    network.get_layer("scale").kernel.assign(np.full((1, 1, 1, 1), 1.5))
    network.compile(keras.optimizers.SGD(0.01), "mean_absolute_error")
    network.fit(f, np.full((1, 1), -100.0), verbose=0)  # the loss is output + 100, linear in the kernel
    slope = pool_by_equation(f, 3, 1, 3.0, same=False).mean()
    assert keras.ops.convert_to_numpy(network.get_layer("scale").kernel).item() == pytest.approx(
        1.5 - 0.01 * slope, rel=1e-5
    )


@pytest.mark.parametrize("p", [2.5, math.inf])
def test_a_model_with_it_is_saved_and_loaded(tmp_path, p):
    inputs = keras.Input((8, 8, 2))
    network = keras.Model(inputs, PNormPooling2D(3, 2, p, "same")(inputs))
    network.save(tmp_path / "pooling.keras")
    loaded = keras.models.load_model(tmp_path / "pooling.keras", safe_mode=True)
    assert loaded.layers[-1].p == p
    f = np.random.default_rng(4).normal(size=(1, 8, 8, 2)).astype("float32")
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(m(f)) for m in (network, loaded)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": 0.5}, "p is 0.5"),
        ({"pool_size": 0}, "pool_size is 0"),
        ({"padding": "full"}, "padding is 'full'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        PNormPooling2D(**settings)


def test_importing_the_package_imports_no_keras():
    program = "import sys, kapp.layers; print('keras' in sys.modules, kapp.layers.PNormPooling2D.__name__)"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.stdout.split() == ["False", "PNormPooling2D"], process.stderr
