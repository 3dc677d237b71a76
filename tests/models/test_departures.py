"""Where paper A's code departs from the published networks: each departure by itself, against plain NumPy."""

import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import WrongValue
from kapp.papers import all_convolutional as paper_a

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


def built(name="all_cnn_c", *departures: str, **settings) -> keras.Model:
    return models.build(name, width=0.1, departures=departures, seed=2, **settings)


def outputs(network, layer: str) -> np.ndarray:
    until = keras.Model(network.input, network.get_layer(layer).output)
    return keras.ops.convert_to_numpy(until(IMAGES, training=False))


def answers(network) -> np.ndarray:
    return keras.ops.convert_to_numpy(network(IMAGES, training=False))


def sides(network) -> list[int]:
    """The sides of the map, from the image to the logits, where they change."""
    maps = [layer.output.shape[1] for layer in network.layers if len(layer.output.shape) == 4]
    return [side for side, before in zip(maps, [None, *maps]) if side != before]


def test_logits_are_averaged_after_a_relu():
    network = built("all_cnn_c", "relu_logits")
    before = outputs(network, "logits")
    assert (before < 0).any()
    np.testing.assert_allclose(
        answers(network), np.maximum(before, 0).mean(axis=(1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(answers(built()), before.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in paper_a.models() if name != "strided_c"])
def test_the_pooling_sees_one_corner_of_an_11x11_map(name):
    network = built(name, "corner")
    assert [side for side in sides(network) if side != 13] == [32, 15, 7, 11, 1]  # 13: the padding itself
    before = outputs(network, "logits")
    assert before.shape[1:] == (11, 11, 10)
    np.testing.assert_allclose(answers(network), before[:, :6, :6].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    assert sides(built(name)) == [32, 16, 8, 6]


def test_the_inputs_dropout_takes_whole_channels_after_the_first_convolution():
    network = built("all_cnn_c", "dropout")
    names = [layer.name for layer in network.layers if "dropout" in layer.name or layer.name == "conv1_relu"]
    assert names == ["conv1_relu", "dropout1", "dropout2", "dropout3"]
    drop = network.get_layer("dropout1")
    assert isinstance(drop, keras.layers.SpatialDropout2D)
    assert drop.rate == 0.2


@pytest.mark.parametrize(("name", "rates"), [("all_cnn_a", [0.2, 0.5, 0.5]), ("all_cnn_b", [0.2, 0.5])])
def test_form_b_never_calls_its_last_dropout(name, rates):
    network = built(name, "dropout")
    assert [layer.rate for layer in network.layers if hasattr(layer, "rate")] == rates


@pytest.mark.parametrize("name", paper_a.models())
def test_no_departure_changes_the_parameters(name):
    departed = built(name, "relu_logits", "corner", "dropout")
    assert departed.count_params() == built(name).count_params()
    assert departed.output_shape == (None, 10)


def test_departures_are_the_papers_alone():
    with pytest.raises(
        WrongValue, match="linear_3 has no departures: paper A's code trains base_a, all_cnn_a"
    ):
        models.build("linear_3", departures=["corner"])
    with pytest.raises(WrongValue, match="unknown departure 'croner'. Did you mean 'corner'"):
        built("all_cnn_c", "croner")
