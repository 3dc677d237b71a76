"""Scores compared with loops written independently, with SciPy and with published values."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from kapp.metrics import classification

RANDOM = np.random.default_rng(7)
LOGITS = RANDOM.normal(0, 3, (200, 5))
LABELS = RANDOM.integers(0, 5, 200)


def test_accuracy_counts_correct_predictions():
    correct = sum(list(row).index(max(row)) == label for row, label in zip(LOGITS, LABELS))
    assert classification.accuracy(LOGITS, LABELS) == correct / 200
    assert classification.accuracy(np.eye(4), np.array([0, 1, 2, 0])) == 0.75


def test_cross_entropy_equals_a_loop():
    losses = [-math.log(softmax(row)[label]) for row, label in zip(LOGITS, LABELS)]
    assert classification.cross_entropy(LOGITS, LABELS) == pytest.approx(sum(losses) / 200, rel=1e-12)
    assert classification.cross_entropy(np.zeros((3, 10)), np.array([1, 2, 3])) == pytest.approx(math.log(10))


def test_cross_entropy_of_large_and_of_float16_logits():
    large = np.array([[1e4, 0.0], [0.0, 1e4]])
    assert classification.cross_entropy(large, np.array([0, 0])) == pytest.approx(5e3)
    half = np.zeros((3, 10), np.float16)
    assert classification.cross_entropy(half, np.array([1, 2, 3])) == pytest.approx(math.log(10), abs=1e-9)


def test_wilson_interval_has_the_published_values():
    assert classification.wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=5e-5)
    assert classification.wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert classification.wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)
    # Newcombe 1998, table I, method 3: 81 of 263.
    assert classification.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert classification.wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_ends_where_the_normal_test_rejects(counts):
    """Its ends solve |p_hat - p| = z sqrt(p (1 - p) / n), from which Wilson derived it."""
    correct, count = counts
    fraction = correct / count
    low, high = classification.wilson_interval(correct, count)
    assert 0 <= low <= fraction <= high <= 1
    for end in (low, high):
        assert abs(fraction - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), abs=1e-6)


def test_more_confidence_is_a_wider_interval():
    low, high = classification.wilson_interval(70, 100)
    lower, higher = classification.wilson_interval(70, 100, confidence=0.99)
    assert lower < low < high < higher


def calibration_by_loops(logits, labels, bins):
    total = 0.0
    for m in range(bins):
        members = []
        for row, label in zip(logits, labels):
            probabilities = list(softmax(row))
            confidence = max(probabilities)
            if m / bins < confidence <= (m + 1) / bins:
                members.append((confidence, probabilities.index(confidence) == label))
        if members:
            confidences, correct = zip(*members)
            gap = abs(sum(correct) / len(members) - sum(confidences) / len(members))
            total += len(members) / len(labels) * gap
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_a_loop(bins):
    expected = calibration_by_loops(LOGITS, LABELS, bins)
    assert expected > 0.01
    assert classification.calibration_error(LOGITS, LABELS, bins) == pytest.approx(expected, abs=1e-12)


def test_a_bin_includes_its_upper_edge():
    """Confidence 0.5 and correct, 0.8 and wrong: in two bins the gaps add up; in one they would cancel."""
    logits = np.log([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
    error = classification.calibration_error(logits, np.array([0, 1]), bins=2)
    assert error == pytest.approx((0.5 + 0.8) / 2)


def test_calibration_error_of_extreme_and_of_perfect_confidence():
    certain = np.full((10, 2), [100.0, 0.0])
    assert classification.calibration_error(certain, np.zeros(10, int)) == pytest.approx(0)
    assert classification.calibration_error(certain, np.ones(10, int)) == pytest.approx(1)
    calibrated = np.full((10, 2), [math.log(0.7), math.log(0.3)])
    assert classification.calibration_error(calibrated, np.array([0] * 7 + [1] * 3)) == pytest.approx(0)
    assert math.isnan(classification.calibration_error(np.full((2, 2), np.nan), np.zeros(2, int)))


def test_confusion_has_true_classes_in_rows():
    counts = classification.confusion(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 1]), 4)
    assert counts.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_confusion_does_not_overflow_small_integers():
    labels = np.full(3, 99, np.uint8)
    assert classification.confusion(labels, labels, 100)[99, 99] == 3


def test_class_scores_count_rows_and_columns():
    counts = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])
    cat, dog, eel = classification.class_scores(counts, ["cat", "dog", "eel"])
    assert (cat.name, cat.images, cat.recall, cat.most_confused_with) == ("cat", 10, 0.8, "dog")
    assert cat.precision == pytest.approx(8 / 9)
    assert cat.interval == classification.wilson_interval(8, 10)
    assert dog.precision == pytest.approx(4 / 6)
    assert (eel.images, eel.recall, eel.precision, eel.most_confused_with) == (0, None, None, None)


def test_score_has_the_keys_of_a_result_and_values_for_json():
    score = classification.score(LOGITS.astype(np.float32), LABELS)
    assert list(score) == ["test_accuracy", "test_interval", "test_loss", "calibration_error"]
    assert json.loads(json.dumps(score)) == score | {"test_interval": list(score["test_interval"])}
    assert score["test_accuracy"] == classification.accuracy(LOGITS, LABELS)
    assert score["test_interval"] == classification.wilson_interval(round(200 * score["test_accuracy"]), 200)


def test_the_bins_contain_every_image_and_sum_to_the_calibration_error():
    bins = classification.calibration_bins(LOGITS, LABELS, 10)
    assert [each.low for each in bins] == [m / 10 for m in range(10)]
    assert [each.high for each in bins] == [(m + 1) / 10 for m in range(10)]
    assert sum(each.images for each in bins) == 200
    assert (bins[0].images, bins[0].confidence, bins[0].accuracy) == (0, None, None)
    filled = [each for each in bins if each.images]
    assert all(each.low < each.confidence <= each.high for each in filled)
    gaps = sum(each.images * abs(each.accuracy - each.confidence) for each in filled)
    assert gaps / 200 == pytest.approx(calibration_by_loops(LOGITS, LABELS, 10))
