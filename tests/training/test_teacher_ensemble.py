import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import ConfigError
from kapp.training import Distiller, TeacherEnsemble
from tests.training.helpers import IMAGES, LABELS, predict, softmax


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


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = keras.layers.Dense(3, activation="softmax")

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return {"name": self.name}


def subclassed(x):
    return Subclassed()(x)


@pytest.mark.parametrize(
    "head", [softmax_layer, nested, softmax_operation, averaged, log_probabilities, subclassed]
)
def test_a_network_may_output_probabilities_in_any_way(head):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, head(x))
    expected = np.exp(predict(model)) if head is log_probabilities else predict(model)
    np.testing.assert_allclose(softmax(predict(TeacherEnsemble(model))), expected, rtol=1e-3, atol=1e-5)


def softmax_activation(x):
    return keras.layers.Activation("softmax")(keras.layers.Dense(3)(x))


def nested_twice(x):
    inner = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(3, activation="softmax")])
    return keras.Sequential([keras.Input(x.shape[1:]), inner])(x)


def confident(head) -> tuple[keras.Model, np.ndarray]:
    """A network that ends in `head`, with logits up to a thousand apart; and its logits, by NumPy."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, head(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))))
    random = np.random.default_rng(0)
    kernel, bias = random.normal(0, 30, (192, 3)), random.normal(0, 30, 3)
    model.set_weights([kernel, bias])
    return model, IMAGES.reshape(30, -1) / 255 @ kernel + bias


@pytest.mark.parametrize("head", [softmax_layer, nested, nested_twice, softmax_operation, softmax_activation])
def test_a_softmax_at_the_end_is_removed(head):
    model, logits = confident(head)
    probabilities = predict(model)
    assert (probabilities < 1e-30).mean() > 0.3
    teacher = TeacherEnsemble(model)
    np.testing.assert_allclose(predict(teacher), logits, rtol=1e-4, atol=0.01)
    assert not teacher.trainable_variables
    np.testing.assert_array_equal(predict(model), probabilities)  # the caller's own model


def test_kl_from_a_softmax_teacher_is_that_of_its_logits():
    """At temperature 4, T^2 KL(teacher || student), against NumPy; 1e-7 as a floor would change it."""
    teacher, logits = confident(softmax_layer)
    student = network(3)
    distiller = Distiller(teacher=teacher, student=student)
    distiller.compile(keras.optimizers.SGD(0.0), distillation_loss="kl", temperature=4.0)

    def kl(teacher_logits: np.ndarray) -> float:
        p, q = softmax(teacher_logits / 4), softmax(predict(student) / 4)
        return float(16 * np.sum(p * (np.log(p) - np.log(q)), axis=1).mean())

    loss = distiller.evaluate(IMAGES, LABELS, batch_size=30, verbose=0, return_dict=True)["loss"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    floored = np.log(np.maximum(softmax(shifted), 1e-7))
    assert loss == pytest.approx(kl(np.maximum(shifted, -400)), rel=1e-4)
    assert abs(kl(floored) - loss) > 0.01 * loss


def test_probabilities_that_have_no_softmax_are_raised_to_1e_30():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.ops.one_hot(keras.ops.cast(inputs[:, 0, 0, 0] > 127, "int32"), 3))
    np.testing.assert_allclose(np.unique(predict(TeacherEnsemble(model))), [np.log(1e-30), 0], rtol=1e-6)


def test_of_two_softmaxes_one_is_removed():
    inputs = keras.Input((8, 8, 3))
    x = softmax_activation(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    np.testing.assert_allclose(softmax(predict(TeacherEnsemble(model))), predict(model), rtol=1e-4)


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
