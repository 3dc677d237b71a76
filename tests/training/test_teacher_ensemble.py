import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import ConfigError
from kapp.training import TeacherEnsemble
from tests.training.helpers import IMAGES, predict, softmax


def network(seed: int, notation: str = "4c-mp-d0.3-3fc", classes: int = 3) -> keras.Model:
    return models.build(notation, classes, image_shape=(8, 8, 3), seed=seed)


@pytest.mark.parametrize(
    ("ensemble", "average"),
    [
        ("logits", lambda a, b: softmax((a + b) / 2)),
        ("probabilities", lambda a, b: (softmax(a) + softmax(b)) / 2),
    ],
)
def test_several_networks_are_averaged(ensemble, average):
    one, two = network(1), network(2, "8fc-3fc")
    teacher = TeacherEnsemble([one, two], ensemble)
    expected = average(predict(one), predict(two))
    np.testing.assert_allclose(softmax(predict(teacher)), expected, rtol=1e-3, atol=1e-5)


def test_the_copy_keeps_adapted_preprocessing():
    normalization = keras.layers.Normalization()
    normalization.adapt(IMAGES.astype("float32"))
    inputs = keras.Input((8, 8, 3))
    adapted = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(normalization(inputs))))
    teacher = TeacherEnsemble(adapted)
    np.testing.assert_allclose(predict(teacher), predict(adapted), rtol=1e-4, atol=1e-4)


def softmax_layer(x):
    return keras.layers.Dense(3, activation="softmax")(x)


def nested(x):
    return keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(3), keras.layers.Softmax()])(x)


def softmax_operation(x):
    return keras.ops.softmax(keras.layers.Dense(3)(x))


def averaged(x):
    return keras.layers.Average()([softmax_layer(x), nested(x)])


def log_probabilities(x):
    return keras.ops.log(softmax_layer(x))


@pytest.mark.parametrize("head", [softmax_layer, nested, softmax_operation, averaged, log_probabilities])
def test_a_network_may_output_probabilities_in_any_way(head):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, head(x))
    expected = np.exp(predict(model)) if head is log_probabilities else predict(model)
    np.testing.assert_allclose(softmax(predict(TeacherEnsemble(model))), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("networks", "ensemble", "message"),
    [
        (lambda: [], "logits", "at least one teacher"),
        (lambda: [network(1), network(2, "10fc", 10)], "logits", r"the teachers have \[3, 10\] classes"),
        (lambda: network(1), "votes", "ensemble is 'votes'"),
        (
            lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]),
            "logits",
            "must be a functional model, or a Sequential one with an Input",
        ),
    ],
)
def test_unusable_teachers_are_refused(networks, ensemble, message):
    with pytest.raises(ConfigError, match=message):
        TeacherEnsemble(networks(), ensemble)
