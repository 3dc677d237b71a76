"""The scores of one model on one data set, and whether their classes match."""

import dataclasses

import numpy as np
import pytest

from kapp import data
from kapp.errors import ConfigError
from kapp.export import scoring
from kapp.metrics import classification
from tests.export.helpers import predictor, run_summary


@pytest.fixture
def tiny(tiny_npz):
    return data.load(f"npz:{tiny_npz}")


def model(probabilities: np.ndarray, classes=(), **values):
    """A model that predicts these probabilities."""
    return predictor(lambda images: probabilities[: len(images)], classes=classes, **values)


def test_predict_accepts_indices_in_place_of_class_names(tiny):
    probabilities = np.full((50, 3), 1 / 3)
    found = scoring.predict(model(probabilities, ("0", "1", "2")), tiny, tiny.test.images)
    np.testing.assert_array_equal(found, probabilities)


def test_predict_accepts_names_for_a_data_set_without(tiny):
    nameless = dataclasses.replace(tiny, classes=("0", "1", "2"))
    probabilities = np.full((50, 3), 1 / 3)
    found = scoring.predict(model(probabilities, ("a", "b", "c")), nameless, tiny.test.images)
    assert found.shape == (50, 3)


@pytest.mark.parametrize(
    ("columns", "classes", "message"),
    [
        (4, (), "mine has 4 classes, npz:.*tiny.npz has 3"),
        (3, ("dark", "light", "mid"), "classes of mine are dark, light, mid; those of npz:.* are dark, mid"),
    ],
)
def test_predict_refuses_other_classes(tiny, columns, classes, message):
    with pytest.raises(ConfigError, match=message):
        scoring.predict(model(np.full((50, columns), 1 / columns), classes), tiny, tiny.test.images)


def test_the_scores_are_those_of_the_metrics(tiny):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    labels, logits = tiny.test.labels, np.log(probabilities)
    found = scoring.score(
        model(probabilities, parameters=7, size_bytes=9),
        probabilities,
        tiny.test.images,
        labels,
        batch_size=10,
    )
    assert found.accuracy == classification.accuracy(logits, labels)
    assert found.interval == classification.wilson_interval(round(50 * found.accuracy), 50)
    assert found.loss == pytest.approx(classification.cross_entropy(logits, labels))
    assert found.calibration_error == pytest.approx(classification.calibration_error(logits, labels))
    assert (found.parameters, found.flops, found.size_bytes, found.batch_size) == (7, None, 9, 10)


def test_a_wrong_prediction_with_probability_1_has_a_finite_loss():
    logits = scoring.to_logits(np.array([[1.0, 0.0]]))
    assert 80 < classification.cross_entropy(logits, np.array([1])) < 100


def test_the_reported_accuracy_is_that_of_the_same_images(tiny):
    same, other = run_summary(data_sha256=tiny.checksum), run_summary(data_sha256="1")
    probabilities = np.zeros((50, 3))
    assert scoring.reported_accuracy(model(probabilities, run=same), "test", tiny) == 0.5
    assert scoring.reported_accuracy(model(probabilities, run=same), "validation", tiny) is None
    assert scoring.reported_accuracy(model(probabilities, run=other), "test", tiny) is None
    assert scoring.reported_accuracy(model(probabilities), "test", tiny) is None


def test_no_model_is_evaluated_on_validation_images_that_it_was_trained_on(tiny):
    def trained(validation_images: int, dataset: str = tiny.name, data_sha256: str = "1"):
        run = run_summary(dataset=dataset, data_sha256=data_sha256, validation_images=validation_images)
        return model(np.zeros((50, 3)), run=run)

    unknown, few, many = model(np.zeros((50, 3))), trained(10), trained(60)
    assert scoring.shared_validation_images(tiny, [unknown]) == 40  # a fifth
    assert scoring.shared_validation_images(tiny, [many]) == 60
    assert scoring.shared_validation_images(tiny, [many, unknown]) == 40
    assert scoring.shared_validation_images(tiny, [unknown, few]) == 10
    assert scoring.shared_validation_images(tiny, [trained(5, "cifar10")]) == 40
    elsewhere = trained(5, "npz:copy.npz", tiny.checksum)  # the same images under another name
    assert scoring.shared_validation_images(tiny, [elsewhere]) == 5
    with pytest.raises(ConfigError, match="trained without validation images. Use --split test"):
        scoring.shared_validation_images(tiny, [unknown, trained(0)])


def test_shared_validation_images_are_those_that_every_model_held_out(tiny):
    """Models that held out 10, 40 and 60 images were trained on none of those that all of them share."""
    models = {count: data.load(tiny.name, validation_images=count) for count in (10, 40, 60)}
    summaries = [run_summary(dataset=tiny.name, validation_images=count) for count in models]
    shared = scoring.shared_validation_images(tiny, [model(np.zeros((50, 3)), run=run) for run in summaries])
    evaluated = {*data.load(tiny.name, validation_images=shared).validation.samples.tolist()}
    assert len(evaluated) == 10
    for each in models.values():
        assert evaluated <= {*each.validation.samples.tolist()}
        assert not evaluated & {*each.train.samples.tolist()}
