"""Each code variant of Hu 2018 against plain NumPy."""

import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import ConfigError
from kapp.papers import hu

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


def build(name="all_cnn_c", *code_variants: str, **settings) -> keras.Model:
    return models.build(name, width=0.1, code_variants=code_variants, seed=2, **settings)


def outputs(network, layer: str) -> np.ndarray:
    model = keras.Model(network.input, network.get_layer(layer).output)
    return keras.ops.convert_to_numpy(model(IMAGES, training=False))


def predictions(network) -> np.ndarray:
    return keras.ops.convert_to_numpy(network(IMAGES, training=False))


def sides(network) -> list[int]:
    """The heights of the maps, from the image to the logits, without repetitions."""
    maps = [layer.output.shape[1] for layer in network.layers if len(layer.output.shape) == 4]
    return [side for side, before in zip(maps, [None, *maps]) if side != before]


def test_logits_are_averaged_after_a_relu():
    network = build("all_cnn_c", "relu_logits")
    logits = outputs(network, "logits")
    assert (logits < 0).any()
    np.testing.assert_allclose(
        predictions(network), np.maximum(logits, 0).mean(axis=(1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(predictions(build()), logits.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in hu.models() if name != "strided_c"])
def test_pooling_covers_one_corner_of_an_11x11_map(name):
    network = build(name, "corner")
    assert [side for side in sides(network) if side != 13] == [32, 15, 7, 11, 1]  # 13: ZeroPadding2D
    logits = outputs(network, "logits")
    assert logits.shape[1:] == (11, 11, 10)
    np.testing.assert_allclose(
        predictions(network), logits[:, :6, :6].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6
    )
    assert sides(build(name)) == [32, 16, 8, 6]


def test_dropout_of_the_input_drops_channels_after_the_first_convolution():
    network = build("all_cnn_c", "dropout")
    names = [layer.name for layer in network.layers if "dropout" in layer.name or layer.name == "conv1_relu"]
    assert names == ["conv1_relu", "dropout1", "dropout2", "dropout3"]
    drop = network.get_layer("dropout1")
    assert isinstance(drop, keras.layers.SpatialDropout2D)
    assert drop.rate == 0.2


@pytest.mark.parametrize(("name", "rates"), [("all_cnn_a", [0.2, 0.5, 0.5]), ("all_cnn_b", [0.2, 0.5])])
def test_the_last_dropout_of_form_b_is_never_called(name, rates):
    network = build(name, "dropout")
    assert [layer.rate for layer in network.layers if hasattr(layer, "rate")] == rates


def test_filters_of_all_cnn_a_are_those_of_figure_7():
    """Against figure 7 in PyTorch, and counted by hand."""
    network = models.build("all_cnn_a", code_variants=["filters"])
    shapes = [tuple(layer.kernel.shape) for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert shapes == [
        (5, 5, 3, 96),
        (3, 3, 96, 192),
        (5, 5, 192, 192),
        (3, 3, 192, 192),
        (3, 3, 192, 192),
        (1, 1, 192, 192),
        (1, 1, 192, 10),
    ]
    assert network.count_params() == 7_296 + 166_080 + 921_792 + 2 * 331_968 + 37_056 + 1_930
    torch = pytest.importorskip("torch")
    conv = torch.nn.Conv2d
    figure_7 = torch.nn.Sequential(
        conv(3, 96, 5, 1, 2), conv(96, 192, 3, 2), conv(192, 192, 5, 1, 2), conv(192, 192, 3, 2),
        conv(192, 192, 3, padding=3), conv(192, 192, 1), conv(192, 10, 1),
    )  # fmt: skip
    assert network.count_params() == sum(weights.numel() for weights in figure_7.parameters())
    narrow = build("all_cnn_a", "filters")
    assert narrow.get_layer("conv2").filters == narrow.get_layer("conv3").filters == 19


@pytest.mark.parametrize("name", hu.models())
def test_no_other_variant_changes_the_parameters(name):
    network = build(name, "relu_logits", "corner", "dropout")
    assert network.count_params() == build(name).count_params()
    assert network.output_shape == (None, 10)


def test_variants_of_other_networks_are_refused():
    with pytest.raises(
        ConfigError, match="linear_3 has no code variants: Hu 2018's code trains base_a, all_cnn_a"
    ):
        models.build("linear_3", code_variants=["corner"])
    with pytest.raises(ConfigError, match="'filters' is of all_cnn_a: all_cnn_c has no such layer"):
        build("all_cnn_c", "filters")
    with pytest.raises(ConfigError, match="unknown code variant 'croner'. Did you mean 'corner'"):
        build("all_cnn_c", "croner")
