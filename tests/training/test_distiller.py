import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import WrongValue
from kapp.training import Distiller
from tests.training.test_learner import IMAGES, LABELS, network, same, state_of


def teacher(seed: int, notation: str = "4c-mp-d0.3-3fc") -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), seed=seed)


def distiller(student, teachers, ensemble="logits", **settings) -> Distiller:
    made = Distiller(student, teachers, ensemble=ensemble)
    made.compile(keras.optimizers.SGD(0.05), **settings)
    return made


def answers(model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(IMAGES, training=False)).astype(float)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def test_the_callers_teacher_is_left_as_it_was():
    caller = teacher(1)
    caller.compile("adam", "mse")
    before, trainable = state_of(caller), [w.trainable for w in caller.weights]
    distiller(network(), caller).fit(IMAGES, LABELS, batch_size=10, epochs=2, verbose=0)
    assert same(before, state_of(caller))
    assert caller.trainable
    assert [w.trainable for w in caller.weights] == trainable
    assert caller.optimizer.iterations == 0


def test_only_the_student_is_trained_and_held_by_the_optimiser():
    student = network()
    made = distiller(student, teacher(1))
    assert made.trainable_variables == student.trainable_variables


def test_evaluate_is_the_objective_in_inference_mode_and_changes_nothing():
    student, caller = network(), teacher(1)
    made = distiller(student, caller, objective="prob_mse")
    before = [*state_of(student), *state_of(made.teachers[0])]
    score = made.evaluate(IMAGES, LABELS, batch_size=10, verbose=0, return_dict=True)
    assert same(before, [*state_of(student), *state_of(made.teachers[0])])
    expected = ((softmax(answers(caller)) - softmax(answers(student))) ** 2).mean()
    assert score["loss"] == pytest.approx(expected, rel=1e-4)
    agree = np.mean(answers(caller).argmax(1) == answers(student).argmax(1))
    assert score["agreement"] == pytest.approx(agree, abs=1e-6)
    assert score["accuracy"] == pytest.approx(np.mean(answers(student).argmax(1) == LABELS), abs=1e-6)


@pytest.mark.parametrize(
    ("ensemble", "averaged"),
    [
        ("logits", lambda a, b: softmax((a + b) / 2)),
        ("probabilities", lambda a, b: (softmax(a) + softmax(b)) / 2),
    ],
)
def test_several_teachers_are_averaged(ensemble, averaged):
    one, two = teacher(1), teacher(2, "8fc-3fc")
    made = distiller(network(), [one, two], ensemble)
    taught = keras.ops.convert_to_numpy(made.teach(keras.ops.convert_to_tensor(IMAGES)))
    np.testing.assert_allclose(softmax(taught), averaged(answers(one), answers(two)), rtol=1e-3, atol=1e-5)


def adapted_teacher() -> keras.Model:
    """A teacher whose preprocessing was fitted to images, as `adapt` does it."""
    normalise = keras.layers.Normalization()
    normalise.adapt(IMAGES.astype("float32"))
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(normalise(inputs))))


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


def test_a_teachers_copy_answers_as_the_teacher_does_with_its_adapted_preprocessing():
    caller = adapted_teacher()
    made = distiller(network(), caller)
    taught = keras.ops.convert_to_numpy(made.teach(keras.ops.convert_to_tensor(IMAGES)))
    np.testing.assert_allclose(taught, answers(caller), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", [softmax_layer, nested, softmax_operation, averaged, log_probabilities])
def test_a_teacher_may_answer_in_probabilities_however_it_is_written(head):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    caller = keras.Model(inputs, head(x))
    made = distiller(network(), caller)
    taught = keras.ops.convert_to_numpy(made.teach(keras.ops.convert_to_tensor(IMAGES))).astype(float)
    expected = np.exp(answers(caller)) if head is log_probabilities else answers(caller)
    np.testing.assert_allclose(softmax(taught), expected, rtol=1e-3, atol=1e-5)


def test_label_weight_mixes_the_labels_in():
    student, caller = network(), teacher(1)
    loss = {}
    for weight in (0.0, 0.25, 1.0):
        made = distiller(student, caller, objective="logit_mse", label_weight=weight)
        loss[weight] = made.evaluate(IMAGES, LABELS, batch_size=30, verbose=0, return_dict=True)["loss"]
    log_p = np.log(softmax(answers(student)))
    assert loss[1.0] == pytest.approx(-log_p[np.arange(30), LABELS].mean(), rel=1e-4)
    assert loss[0.0] == pytest.approx(((answers(caller) - answers(student)) ** 2).mean(), rel=1e-4)
    assert loss[0.25] == pytest.approx(0.75 * loss[0.0] + 0.25 * loss[1.0], rel=1e-4)


def test_a_students_own_losses_and_the_sample_weights_count():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))(x)
    student = keras.Model(inputs, outputs)
    made = distiller(student, teacher(1), objective="logit_mse")
    weight = np.linspace(0, 2, 30).astype("float32")
    score = made.evaluate(IMAGES, LABELS, sample_weight=weight, batch_size=30, verbose=0, return_dict=True)
    each = ((answers(made.teachers[0]) - answers(student)) ** 2).mean(axis=1)
    kernel = keras.ops.convert_to_numpy(student.layers[-1].kernel).astype(float)
    assert score["loss"] == pytest.approx((each * weight).mean() + 0.1 * (kernel**2).sum(), rel=1e-4)


def test_a_user_may_bring_an_objective():
    made = distiller(network(), teacher(1), objective=lambda t, s: keras.ops.zeros_like(s[:, 0]) + 7.0)
    assert made.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)["loss"] == pytest.approx(7)


def test_the_student_comes_to_answer_as_its_teacher_does():
    caller = models.build("3fc", 3, image_shape=(8, 8, 3), seed=5)
    student = models.build("16fc-3fc", 3, image_shape=(8, 8, 3), seed=6)
    made = Distiller(student, caller)
    made.compile(keras.optimizers.Adam(0.01), objective="kl", temperature=2.0)
    before = made.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    made.fit(IMAGES, LABELS, batch_size=10, epochs=50, shuffle=False, verbose=0)
    after = made.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 3
    assert after["agreement"] > max(0.8, before["agreement"])


def test_a_float32_teacher_teaches_a_bfloat16_student():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        student = network()
    finally:
        keras.config.set_dtype_policy("float32")
    made = distiller(student, teacher(1))
    made.fit(IMAGES, LABELS, verbose=0)
    assert made.teachers[0].get_layer("conv1").compute_dtype == "float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_weight": 2}, "label_weight is 2: it must be from 0 to 1"),
        ({"objective": "kl", "temperature": 0}, "temperature is 0: it must be above 0"),
        ({"objective": "mse"}, "unknown objective 'mse'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(WrongValue, match=message):
        distiller(network(), teacher(1), **settings)


def test_teachers_that_cannot_teach_are_refused():
    ten_classes = models.build("10fc", 10, image_shape=(8, 8, 3))
    with pytest.raises(WrongValue, match="knows 10 classes, student .* 3"):
        Distiller(network(), ten_classes)
    with pytest.raises(WrongValue, match="at least one teacher"):
        Distiller(network(), [])
    with pytest.raises(WrongValue, match="must be a functional model, or a Sequential one with an Input"):
        Distiller(network(), keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]))
    with pytest.raises(WrongValue, match="ensemble is 'votes'"):
        Distiller(network(), teacher(1), ensemble="votes")
