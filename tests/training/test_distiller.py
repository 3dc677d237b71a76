import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import ConfigError
from kapp.training import Distiller, TeacherEnsemble
from tests.training.helpers import (
    IMAGES,
    LABELS,
    equal_arrays,
    predict,
    small_network,
    softmax,
    state_of,
    to_numpy,
)


def network(seed: int, notation: str = "4c-mp-d0.3-3fc") -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), seed=seed)


def compiled(teacher, student, **settings) -> Distiller:
    distiller = Distiller(teacher=teacher, student=student)
    distiller.compile(keras.optimizers.SGD(0.05), **settings)
    return distiller


def evaluate(distiller, **settings) -> dict[str, float]:
    return distiller.evaluate(IMAGES, LABELS, verbose=0, return_dict=True, **settings)


def test_the_callers_teacher_stays_as_it_is():
    teacher = network(1)
    teacher.compile("adam", "mse")
    before, trainable = state_of(teacher), [weight.trainable for weight in teacher.weights]
    compiled(teacher, small_network()).fit(IMAGES, LABELS, batch_size=10, epochs=2, verbose=0)
    assert equal_arrays(before, state_of(teacher))
    assert teacher.trainable
    assert [weight.trainable for weight in teacher.weights] == trainable
    assert teacher.optimizer.iterations == 0


def test_only_the_student_is_trained():
    student = small_network()
    assert compiled(network(1), student).trainable_variables == student.trainable_variables


def test_evaluate_is_in_inference_mode_and_changes_nothing():
    student, teacher = small_network(), network(1)
    distiller = compiled(teacher, student, distillation_loss="prob_mse")
    before = [*state_of(student), *state_of(distiller.teacher)]
    score = evaluate(distiller, batch_size=10)
    assert equal_arrays(before, [*state_of(student), *state_of(distiller.teacher)])
    expected = ((softmax(predict(teacher)) - softmax(predict(student))) ** 2).mean()
    assert score["loss"] == pytest.approx(expected, rel=1e-4)
    agreement = np.mean(predict(teacher).argmax(1) == predict(student).argmax(1))
    assert score["agreement"] == pytest.approx(agreement, abs=1e-6)
    assert score["accuracy"] == pytest.approx(np.mean(predict(student).argmax(1) == LABELS), abs=1e-6)


def test_an_ensemble_is_a_teacher():
    one, two, student = network(1), network(2, "8fc-3fc"), small_network()
    teacher = TeacherEnsemble([one, two], "probabilities")
    loss = evaluate(compiled(teacher, student))["loss"]
    mean = (softmax(predict(one)) + softmax(predict(two))) / 2
    assert loss == pytest.approx(((mean - softmax(predict(student))) ** 2).mean(), rel=1e-3)


def test_label_weight_mixes_the_losses():
    student, teacher = small_network(), network(1)
    loss = {}
    for weight in (0.0, 0.25, 1.0):
        distiller = compiled(teacher, student, distillation_loss="logit_mse", label_weight=weight)
        loss[weight] = evaluate(distiller, batch_size=30)["loss"]
    log_p = np.log(softmax(predict(student)))
    assert loss[1.0] == pytest.approx(-log_p[np.arange(30), LABELS].mean(), rel=1e-4)
    assert loss[0.0] == pytest.approx(((predict(teacher) - predict(student)) ** 2).mean(), rel=1e-4)
    assert loss[0.25] == pytest.approx(0.75 * loss[0.0] + 0.25 * loss[1.0], rel=1e-4)


def test_the_students_own_losses_and_sample_weights_count():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))(x)
    student, teacher = keras.Model(inputs, outputs), network(1)
    weight = np.linspace(0, 2, 30).astype("float32")
    distiller = compiled(teacher, student, distillation_loss="logit_mse")
    loss = evaluate(distiller, sample_weight=weight, batch_size=30)["loss"]
    each = ((predict(teacher) - predict(student)) ** 2).mean(axis=1)
    kernel = to_numpy(student.layers[-1].kernel).astype(float)
    assert loss == pytest.approx((each * weight).mean() + 0.1 * (kernel**2).sum(), rel=1e-4)


def test_the_loss_may_be_a_function():
    distiller = compiled(
        network(1), small_network(), distillation_loss=lambda y, t, s: keras.ops.zeros_like(s[:, 0]) + 7.0
    )
    assert evaluate(distiller)["loss"] == pytest.approx(7)


def test_the_student_learns_to_predict_as_its_teacher():
    distiller = Distiller(teacher=network(5, "3fc"), student=network(6, "16fc-3fc"))
    distiller.compile(keras.optimizers.Adam(0.01), distillation_loss="kl", temperature=2.0)
    before = evaluate(distiller)
    distiller.fit(IMAGES, LABELS, batch_size=10, epochs=50, shuffle=False, verbose=0)
    after = evaluate(distiller)
    assert after["loss"] < before["loss"] / 3
    assert after["agreement"] > max(0.8, before["agreement"])


def test_a_teacher_keeps_its_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        student = small_network()
    finally:
        keras.config.set_dtype_policy("float32")
    distiller = compiled(network(1), student)
    distiller.fit(IMAGES, LABELS, verbose=0)
    assert distiller.teacher.networks[0].get_layer("conv1").compute_dtype == "float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_weight": 2}, "the label weight is 2: above 1, set the distill weight as well"),
        ({"label_weight": 0.5, "distill_weight": -1.0}, "the distill weight is -1.0: it must be 0 or more"),
        ({"label_weight": 0.0, "distill_weight": 0.0}, "the student would learn nothing"),
        ({"distillation_loss": "kl", "temperature": 0}, "temperature is 0: it must be above 0"),
        ({"distillation_loss": "mse"}, "unknown distillation_loss 'mse'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        compiled(network(1), small_network(), **settings)


def test_standardized_logits_of_two_classes_are_refused():
    two = (models.build("4fc-2fc", classes=2, image_shape=(4, 4, 3), seed=seed) for seed in range(2))
    with pytest.raises(ConfigError, match="three classes"):
        compiled(*two, standardize_logits=True)


def test_a_teacher_with_other_classes_is_refused():
    with pytest.raises(ConfigError, match="the teacher has 10 classes, student .* 3"):
        Distiller(models.build("10fc", 10, image_shape=(8, 8, 3)), small_network())
