import re

import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import ConfigError
from kapp.training import Learner


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def parameters_of_printed_notation(name: str) -> int:
    """Counts the parameters of the notation in the paper; batch normalization has 4 per channel."""
    spec = models.get_spec(name)
    printed = spec.printed_notation or spec.notation
    if not printed.endswith("10fc"):
        printed += "-10fc"
    side, channels, total, last_filters = 32, 3, 0, None
    flat = False
    for count, kind, repeat in re.findall(r"(\d*)(c|fc|mp)(?:\^(\d+))?(?:-|$)", printed):
        if kind == "mp":
            side //= 2
        for i in range(int(repeat or 1)) if kind != "mp" else ():
            filters = int(count)
            if kind == "c":
                if spec.residual and i == 0:
                    total += channels * filters + 4 * filters  # the projection of the skip connection
                    side //= 1 if last_filters is None else 2
                    last_filters = filters
                total += 9 * channels * filters + 4 * filters
                channels = filters
                continue
            if not flat and name != "deep_resnet":  # kapp's choice there: global pooling
                channels *= side * side
            flat = True
            classes = kind == "fc" and printed.endswith(f"-{count}fc") and filters == 10
            total += channels * filters + (filters if classes else 4 * filters)
            channels = filters
    return total


SPRINGENBERG = {
    "base_a": 839_242,
    "base_b": 885_610,
    "base_c": 954_730,
    "strided_c": 954_730,
    "convpool_c": 1_369_738,
    "all_cnn_a": 1_254_250,
    "all_cnn_b": 1_300_618,
    "all_cnn_c": 1_369_738,
}
FAMILIES = ("base", "strided", "convpool", "all_cnn")
RATUSZNIK = [name for name in models.names() if models.get_spec(name).paper == "Ratusznik et al."]


@pytest.mark.parametrize("name", RATUSZNIK)
def test_parameters_are_those_of_the_notation(name):
    network = models.build(name)
    assert network.count_params() == parameters_of_printed_notation(name)
    assert network.output_shape == (None, 10)
    assert network.output.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("teacher_1", 5.34e6),
        ("deep_resnet", 11.1e6),
        ("conv_1", 10.49e6),
        ("conv_2", 9.88e6),
        ("linear_3", 10.51e6),
        ("linear_4", 10.91e6),
        ("shallow_resnet", 9.2e6),
        ("deep_linear", 10.57e6),
    ],
)
def test_parameters_are_near_the_published_counts_without_batch_norm(name, published):
    assert models.build(name).count_params() == pytest.approx(published, rel=0.015)


def test_shallow_resnet_is_flattened_as_in_its_notation():
    """Counted by hand: 3x3 convolutions, 1x1 projections, 4 numbers per channel of batch normalization."""
    convolutions = 9 * (3 * 128 + 128 * 128 + 128 * 512 + 3 * 512 * 512)
    projections, channels = 3 * 128 + 128 * 512, 3 * 128 + 5 * 512
    before = convolutions + projections + 4 * channels
    assert models.build("shallow_resnet").count_params() == before + 16 * 16 * 512 * 10 + 10 == 9_207_050
    pooled = models.build("res-128c^2-512c^4-gap-10fc")
    assert pooled.count_params() == before + 512 * 10 + 10 == 7_901_450
    names = [layer.name for layer in models.build("shallow_resnet", width=0.1).layers]
    assert [name for name in names if name.endswith("_add")] == ["block1_add", "block2_add", "block3_add"]
    assert names[-2:] == ["flatten", "logits"]


def test_a_residual_notation_is_that_of_the_registry():
    a, b = (
        models.build("res-64c^8-128c^12-256c^16-gap-10fc", width=0.1),
        models.build("deep_resnet", width=0.1),
    )
    assert [layer.name for layer in a.layers] == [layer.name for layer in b.layers]
    assert [weight.shape for weight in a.weights] == [weight.shape for weight in b.weights]


@pytest.mark.parametrize("name", SPRINGENBERG)
def test_parameters_of_the_all_convolutional_networks(name):
    assert models.build(name).count_params() == SPRINGENBERG[name]


@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_families_differ_in_pooling_and_strides_only(form):
    for family in FAMILIES:
        network = models.build(f"{family}_{form}", width=0.1)
        pools = [layer for layer in network.layers if isinstance(layer, keras.layers.MaxPooling2D)]
        strided = [
            layer
            for layer in network.layers
            if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)
        ]
        assert (len(pools), len(strided)) == ((2, 0) if family in ("base", "convpool") else (0, 2))
        rates = [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == [0.2, 0.5, 0.5]
        assert [network.get_layer(f"dropout{i}").output.shape[1] for i in (1, 2, 3)] == [32, 16, 8]
        assert network.get_layer("logits").output.shape[1:] == (6, 6, 10)
        assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


def test_the_pooling_norm_is_that_of_each_pooling():
    network = models.build("base_c", width=0.1, pooling_norm=2.0)
    assert [network.get_layer(f"pool{i}").p for i in (1, 2)] == [2.0, 2.0]
    assert models.build("conv_1", width=0.1, pooling_norm=1.0).get_layer("pool1").p == 1.0


@pytest.mark.parametrize("name", models.names())
def test_each_network_is_trained_saved_and_loaded(name, tmp_path):
    network = models.build(name, classes=5, width=0.06, seed=3)
    x, y = random_images(16), np.arange(16) % 5
    before = [keras.ops.convert_to_numpy(w) for w in network.trainable_weights]
    learner = Learner(network)
    learner.compile(keras.optimizers.SGD(0.05 if models.get_spec(name).paper == "Hu 2018" else 0.5))
    learner.fit(x, y, batch_size=16, epochs=2, verbose=0)
    for weight, old in zip(network.trainable_weights, before):
        assert np.isfinite(weight).all(), weight.path
        assert (keras.ops.convert_to_numpy(weight) != old).any(), f"no gradient reached {weight.path}"

    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras", safe_mode=True)
    expected = keras.ops.convert_to_numpy(network(x, training=False))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(x, training=False)), expected, atol=1e-5)


def test_layers_of_one_kind_after_the_classes_have_names_of_their_own():
    names = [layer.name for layer in models.build("64c-10c1x1-relu-ap2x2-relu-gap", width=0.1).layers]
    assert names[-5:] == ["logits", "logits_relu", "average", "logits_relu_2", "average_2"]


def test_dropouts_of_teacher_1():
    network = models.build("teacher_1", width=0.1)
    names = [layer.name for layer in network.layers]
    rates = [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.2, 0.3, 0.37, 0.42]
    before = [names[names.index(f"dropout{i}") - 1] for i in (1, 2, 3, 4)]
    assert before == ["pool1", "pool2", "pool3", "dense2_relu"]


def test_residual_networks_halve_maps_where_filters_change():
    network = models.build("deep_resnet", width=0.1)
    assert sum(isinstance(layer, keras.layers.Add) for layer in network.layers) == 18
    sides = [network.get_layer(f"block{i}_relu").output.shape[1] for i in range(1, 19)]
    assert sides == [32] * 4 + [16] * 6 + [8] * 8


def test_images_are_normalized_inside_the_network():
    a = models.build("linear_3", width=0.05, mean=(100, 110, 120), std=(50, 60, 70))
    b = models.build("linear_3", width=0.05, mean=(50, 55, 60), std=(25, 30, 35))
    b.set_weights(a.get_weights())
    x = (random_images(4) // 2 * 2).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(a(x)), keras.ops.convert_to_numpy(b(x / 2)), rtol=1e-4, atol=1e-4
    )


def test_the_seed_determines_the_weights():
    one, same, other = (models.build("conv_1", width=0.05, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, same))
    assert any((a != b).any() for a, b in zip(one, other))


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ConfigError, match="channels_first"):
            models.build("linear_3")
    finally:
        keras.config.set_image_data_format("channels_last")


def test_initial_weights_have_the_variance_of_he_et_al_equation_10():
    kernel = models.build("linear_3").get_layer("dense2").kernel
    assert np.std(keras.ops.convert_to_numpy(kernel)) == pytest.approx((2 / 2048) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "deep_resnt"}, "Did you mean 'deep_resnet'"),
        ({"name": "64c-x-10fc"}, "'x' in '64c-x-10fc' is not a layer"),
        ({"name": "linear_3", "width": 0}, "width is 0"),
        ({"name": "linear_3", "width": float("nan")}, "width is nan"),
        ({"name": "linear_3", "classes": 1}, "at least 2"),
        ({"name": "64c-10c"}, "ends in a map"),
        ({"name": "res-64c^3-10fc"}, "'res-64c^3-10fc': a residual network starts with padded 3x3"),
        ({"name": "res-64c-32c-10fc"}, "3x3 convolutions in pairs"),
        ({"name": "res-64c5x5^2-10fc"}, "3x3 convolutions in pairs"),
        ({"name": "res-64c^2-mp-64c^2-10fc"}, "3x3 convolutions in pairs"),
        ({"name": "res-64fc-10fc"}, "3x3 convolutions in pairs"),
        ({"name": "mp-mp-mp-mp-mp-mp-10fc"}, "don't fit images of"),
    ],
)
def test_impossible_networks_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        models.build(**arguments)
