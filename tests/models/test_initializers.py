import hashlib
import json
import zipfile

import keras
import numpy as np
import pytest
from scipy import stats

from kapp import models
from kapp.models.initializers import HeNormal
from kapp.training.linear_probe import replace_head

# The SHA-256 of the weights, the same on every backend and machine.
NETWORK = "9d78480b9bc366ab23632468cc55a29bc1173ff040177d8f242cff093b327650"
HEAD = "154c714986bdc4ce0f49e8d8d26c21058d99ced5e0c191d4c0e9273d53f60dc7"


def kernel(seed: int, *shape: int, dtype: str | None = None) -> np.ndarray:
    return keras.ops.convert_to_numpy(HeNormal(seed=seed)(shape, dtype=dtype))


def digest(network: keras.Model) -> str:
    return hashlib.sha256(b"".join(w.astype("<f4").tobytes() for w in network.get_weights())).hexdigest()


def small(seed: int) -> keras.Model:
    return models.build("6c-mp-d0.5-8fc-8fc-3fc", 3, image_shape=(8, 8, 3), seed=seed)


def test_the_weights_of_a_seed_are_the_same_on_every_backend():
    assert digest(small(seed=7)) == NETWORK
    assert digest(replace_head(small(seed=7), 4, "mlp", seed=8).head) == HEAD


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (300, 500)])  # an odd number, and more than a chunk
def test_a_weight_is_the_quantile_of_its_bits(shape):
    count = int(np.prod(shape))
    words = np.random.Philox(np.random.SeedSequence([9])).random_raw(count)
    bits = np.stack([words & 0xFFFFFFFF, words >> np.uint64(32)], axis=1).ravel()[:count]
    std = np.sqrt(2 / np.prod(shape[:-1])) / stats.truncnorm.std(-2, 2)
    expected = stats.truncnorm.ppf((bits + 0.5) / 2**32, -2, 2, scale=std).reshape(shape)
    np.testing.assert_allclose(kernel(9, *shape), expected, rtol=1e-6, atol=1e-8)


def test_the_distribution_is_that_of_he_et_al_equation_10_truncated_as_in_keras():
    shape, fan_in = (3, 3, 40, 300), 360
    weights = kernel(1, *shape).ravel()
    std = np.sqrt(2 / fan_in)
    bound = 2 * std / stats.truncnorm.std(-2, 2)
    assert np.abs(weights).max() <= bound
    assert weights.max() > 0.999 * bound > -0.999 * bound > weights.min()
    assert abs(weights.mean()) < 4 * std / np.sqrt(weights.size)
    assert weights.std() == pytest.approx(std, rel=0.01)
    assert stats.kstest(weights / (bound / 2), stats.truncnorm(-2, 2).cdf).pvalue > 0.01
    keras_own = keras.ops.convert_to_numpy(keras.initializers.HeNormal(seed=1)(shape)).ravel()
    assert stats.ks_2samp(weights, keras_own).pvalue > 0.01


def test_seeds_and_layers_have_different_weights():
    one, other = ([w for w in small(seed).get_weights() if w.ndim > 1] for seed in (1, 2))
    assert all(np.abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.5 for a, b in zip(one, other))
    layers = [models.build("16fc^3-3fc", 3, seed=1).get_layer(f"dense{i}").kernel for i in (2, 3)]
    a, b = (keras.ops.convert_to_numpy(each).ravel() for each in layers)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


def test_the_dtype_is_that_of_the_variable():
    half = HeNormal(seed=1)((4, 4), dtype="bfloat16")
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.cast(half, "float32")), kernel(1, 4, 4), rtol=2**-8
    )


def test_a_file_names_the_initializer_of_keras(tmp_path):
    small(seed=7).save(tmp_path / "network.keras")
    with zipfile.ZipFile(tmp_path / "network.keras") as file:
        layers = json.loads(file.read("config.json"))["config"]["layers"]
    saved = [
        layer["config"]["kernel_initializer"] for layer in layers if "kernel_initializer" in layer["config"]
    ]
    assert [type(keras.initializers.deserialize(each)) for each in saved] == [keras.initializers.HeNormal] * 4
