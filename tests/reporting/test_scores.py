"""Scores against loops written independently, and against values known from elsewhere."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapp.reporting import scores

RANDOM = np.random.default_rng(7)
LOGITS = RANDOM.normal(0, 3, (200, 5))
LABELS = RANDOM.integers(0, 5, 200)


def softmax(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def test_accuracy_counts_the_right_answers():
    right = sum(list(row).index(max(row)) == label for row, label in zip(LOGITS, LABELS))
    assert scores.accuracy(LOGITS, LABELS) == right / 200
    assert scores.accuracy(np.eye(4), np.array([0, 1, 2, 0])) == 0.75


def test_cross_entropy_equals_a_loop():
    losses = [-math.log(softmax(row)[label]) for row, label in zip(LOGITS, LABELS)]
    assert scores.cross_entropy(LOGITS, LABELS) == pytest.approx(sum(losses) / 200, rel=1e-12)
    assert scores.cross_entropy(np.zeros((3, 10)), np.array([1, 2, 3])) == pytest.approx(math.log(10))


def test_cross_entropy_survives_great_and_half_precision_logits():
    great = np.array([[1e4, 0.0], [0.0, 1e4]])
    assert scores.cross_entropy(great, np.array([0, 0])) == pytest.approx(5e3)
    half = np.zeros((3, 10), np.float16)
    assert scores.cross_entropy(half, np.array([1, 2, 3])) == pytest.approx(math.log(10), abs=1e-9)


def test_wilson_interval_has_the_published_values():
    assert scores.wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=5e-5)
    assert scores.wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert scores.wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)
    # Newcombe 1998, table I, method 3: 81 of 263.
    assert scores.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert scores.wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_where_the_normal_test_just_rejects(counts):
    """Its ends solve |share - p| = z sqrt(p (1 - p) / n), from which Wilson derived it."""
    correct, count = counts
    share = correct / count
    low, high = scores.wilson_interval(correct, count)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), abs=1e-6)


def test_more_confidence_is_a_wider_interval():
    low, high = scores.wilson_interval(70, 100)
    lower, higher = scores.wilson_interval(70, 100, confidence=0.99)
    assert lower < low < high < higher


def calibration_by_loops(logits, labels, bins):
    total = 0.0
    for m in range(bins):
        members = []
        for row, label in zip(logits, labels):
            shares = softmax(row)
            confidence = max(shares)
            if m / bins < confidence <= (m + 1) / bins:
                members.append((confidence, shares.index(confidence) == label))
        if members:
            confidences, rights = zip(*members)
            gap = abs(sum(rights) / len(members) - sum(confidences) / len(members))
            total += len(members) / len(labels) * gap
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_a_loop(bins):
    expected = calibration_by_loops(LOGITS, LABELS, bins)
    assert expected > 0.01
    assert scores.calibration_error(LOGITS, LABELS, bins) == pytest.approx(expected, abs=1e-12)


def test_a_bin_holds_its_upper_edge():
    """Half sure and right, 80% sure and wrong: apart, the gaps add up; together, they'd cancel."""
    logits = np.log([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
    assert scores.calibration_error(logits, np.array([0, 1]), bins=2) == pytest.approx((0.5 + 0.8) / 2)


def test_calibration_error_of_the_sure_and_the_honest():
    sure = np.full((10, 2), [100.0, 0.0])
    assert scores.calibration_error(sure, np.zeros(10, int)) == pytest.approx(0)
    assert scores.calibration_error(sure, np.ones(10, int)) == pytest.approx(1)
    honest = np.full((10, 2), [math.log(0.7), math.log(0.3)])
    assert scores.calibration_error(honest, np.array([0] * 7 + [1] * 3)) == pytest.approx(0)
    assert math.isnan(scores.calibration_error(np.full((2, 2), np.nan), np.zeros(2, int)))


def test_confusion_has_true_classes_in_rows():
    counts = scores.confusion(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 1]), 4)
    assert counts.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_confusion_does_not_overflow_small_integers():
    labels = np.full(3, 99, np.uint8)
    assert scores.confusion(labels, labels, 100)[99, 99] == 3


def test_score_holds_the_keys_of_a_result_ready_for_json():
    score = scores.score(LOGITS.astype(np.float32), LABELS)
    assert list(score) == ["test_accuracy", "test_interval", "test_loss", "calibration_error"]
    assert json.loads(json.dumps(score)) == score
    assert score["test_accuracy"] == scores.accuracy(LOGITS, LABELS)
    assert score["test_interval"] == list(scores.wilson_interval(round(200 * score["test_accuracy"]), 200))


def test_the_bins_hold_every_row_and_make_up_the_calibration_error():
    bins = scores.calibration_bins(LOGITS, LABELS, 10)
    assert [row["from"] for row in bins] == [m / 10 for m in range(10)]
    assert sum(row["images"] for row in bins) == 200
    assert bins[0] == {"from": 0.0, "to": 0.1, "images": 0, "confidence": None, "accuracy": None}
    held = [row for row in bins if row["images"]]
    assert all(row["from"] < row["confidence"] <= row["to"] for row in held)
    gaps = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in held)
    assert gaps / 200 == pytest.approx(calibration_by_loops(LOGITS, LABELS, 10))
