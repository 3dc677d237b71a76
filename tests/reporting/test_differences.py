"""Sentences about the difference of two runs."""

import dataclasses

import numpy as np
import pytest

from kapp import records
from kapp.metrics import significance
from kapp.records import Comparison
from kapp.reporting import differences
from tests.reporting.helpers import add_predictions


@pytest.fixture
def pair(make_run):
    runs = make_run("a", accuracy=0.56), make_run("b", accuracy=0.55)
    for run in runs:
        add_predictions(run)
    return runs


def test_two_runs_are_compared_on_their_test_images(pair):
    found = differences.compare_runs(*pair)
    first, second = (run.predictions() for run in pair)
    assert found == significance.compare(first.test_classes, second.test_classes, first.test_labels)
    assert found.difference == pytest.approx(0.01)
    assert found.interval[0] < 0.01 < found.interval[1]


def test_no_comparison_without_predictions_of_the_same_images(pair, make_run):
    run, other = pair
    assert differences.compare_runs(run, make_run("old")) is None
    assert differences.compare_runs(make_run("older"), run) is None
    predictions = other.predictions()
    other.write_predictions(predictions._replace(test_samples=predictions.test_samples + 1))
    assert differences.compare_runs(run, other) is None
    other.write_predictions(predictions)
    config = dataclasses.replace(other.config, data_sha256="1" * 64)
    records.write(config, other.config_file)
    other.write_result(other.result)
    assert differences.compare_runs(run, other) is None


def test_the_sentences_name_the_test_and_what_would_be_significant():
    comparison = Comparison(1000, 0.9, 60, 30, 0.03, (0.012, 0.048), significance.mcnemar(60, 30))
    assert differences.describe(comparison, "conv_1", "conv_2") == (
        "conv_1 compared with conv_2 on the same images: +3.0 points (+1.2 to +4.8) of accuracy (paired 95% "
        "interval), p = 0.0021 by McNemar's exact test: significant at the 5% level. Both predict the same "
        "class for 90.0% of the images. Exactly one of the two is correct for 90 of 1,000 images; "
        "with as many, differences are significant from 2.0 points on."
    )
    assert differences.smallest_significant(comparison) == 0.02


def test_an_insignificant_difference_and_too_few_images():
    comparison = Comparison(1000, 0.99, 3, 1, 0.002, (-0.001, 0.005), significance.mcnemar(3, 1))
    text = differences.describe(comparison, "conv_1", "conv_2")
    assert "p = 0.62 by McNemar's exact test: not significant at the 5% level" in text
    assert "correct for 4 of 1,000 images, too few for any significant difference." in text
    assert differences.smallest_significant(comparison) == np.inf
