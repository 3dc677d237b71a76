"""One model on one data set: whose classes are whose, and the numbers."""

import numpy as np
import pytest

from kapp import data
from kapp.errors import WrongValue
from kapp.reporting import scores
from kapp.serving import scoring
from kapp.serving.predictor import Predictor


@pytest.fixture
def tiny(tiny_npz):
    return data.load(f"npz:{tiny_npz}")


def model(answers: np.ndarray, classes=(), **facts) -> Predictor:
    return Predictor(
        "mine", "onnx", lambda images: answers[: len(images)], (8, 8, 3), classes, 9, "CPU", facts
    )


def test_a_model_that_numbers_its_classes_fits_a_set_that_names_them(tiny):
    answers = np.full((50, 3), 1 / 3)
    assert scoring.answers(model(answers, ("0", "1", "2")), tiny, tiny.test.images).shape == (50, 3)


def test_other_classes_than_the_data_sets_are_refused(tiny):
    answers = np.full((50, 4), 0.25)
    with pytest.raises(WrongValue, match=r"mine knows 4 classes, npz:.*tiny.npz has 3"):
        scoring.answers(model(answers), tiny, tiny.test.images)
    with pytest.raises(
        WrongValue, match="mine knows the classes dark, light, mid; npz:.* has dark, mid, light"
    ):
        scoring.answers(model(answers[:, :3], ("dark", "light", "mid")), tiny, tiny.test.images)
    known = scoring.answers(model(answers[:, :3] / 0.75, ("dark", "mid", "light")), tiny, tiny.test.images)
    assert known.shape == (50, 3)


def test_a_data_set_without_names_takes_the_models(tiny, tmp_path):
    np.savez(
        tmp_path / "nameless.npz",
        **{f"x_{part}": getattr(tiny, part).images for part in ("train", "test")},
        **{f"y_{part}": getattr(tiny, part).labels for part in ("train", "test")},
    )
    nameless = data.load(f"npz:{tmp_path / 'nameless.npz'}")
    assert nameless.classes == ("0", "1", "2")
    thirds = np.full((50, 3), 1 / 3)
    assert scoring.answers(model(thirds, ("a", "b", "c")), nameless, nameless.test.images).shape == (50, 3)


def test_the_numbers_of_a_model_are_those_of_the_scores(tiny):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    labels = tiny.test.labels
    logits = np.log(probabilities)
    found = scoring.describe(
        model(probabilities, parameters=7), probabilities, tiny.test.images, labels, batch_size=10
    )
    assert found["accuracy"] == scores.accuracy(logits, labels)
    assert found["interval"] == list(scores.wilson_interval(round(50 * found["accuracy"]), 50))
    assert found["loss"] == pytest.approx(scores.cross_entropy(logits, labels))
    assert found["calibration_error"] == pytest.approx(scores.calibration_error(logits, labels))
    assert (found["parameters"], found["flops"], found["bytes"]) == (7, None, 9)


def test_a_probability_of_nought_costs_much_and_not_infinitely():
    sure = scoring.logits(np.array([[1.0, 0.0]]))
    assert 80 < scores.cross_entropy(sure, np.array([1])) < 100


def test_what_the_run_said_holds_for_the_very_same_images_only(tiny):
    facts = {"test_accuracy": 0.5, "data_sha256": tiny.checksum}
    answers = np.zeros((50, 3))
    assert scoring.said(model(answers, **facts), "test", tiny) == 0.5
    assert scoring.said(model(answers, **facts), "validation", tiny) is None
    assert scoring.said(model(answers, **{**facts, "data_sha256": "other"}), "test", tiny) is None
    assert scoring.said(model(answers), "test", tiny) is None


def test_no_model_is_evaluated_on_validation_images_that_it_was_trained_on(tiny):
    nothing = np.zeros((50, 3))
    silent, few, many, none = (
        model(nothing, **({"dataset": tiny.name, "validation": count} if count is not None else {}))
        for count in (None, 10, 60, 0)
    )
    elsewhere = model(nothing, dataset="cifar10", validation=5)
    assert scoring.held_out(tiny, [silent]) == 40  # a fifth
    assert scoring.held_out(tiny, [many]) == 60
    assert scoring.held_out(tiny, [many, silent]) == 40
    assert scoring.held_out(tiny, [silent, few]) == 10
    assert scoring.held_out(tiny, [elsewhere]) == 40
    with pytest.raises(WrongValue, match="trained without validation images. There is --split test"):
        scoring.held_out(tiny, [silent, none])
    part, whole = (data.load(tiny.name, validation=count).validation.samples for count in (10, 40))
    np.testing.assert_array_equal(part, whole[:10])
