"""The page of an evaluation, and the table it is made of."""

import numpy as np
import pytest

from kapp.reporting import evaluation
from kapp.reporting.scores import wilson_interval

MODEL = {
    "name": "conv_1",
    "kind": "onnx",
    "accuracy": 0.5,
    "interval": [0.45, 0.55],
    "loss": 1.25,
    "calibration_error": 0.031,
    "parameters": 165_218,
    "flops": None,
    "bytes": 662_000,
    "device": "CPU, 2 cores",
    "latency_ms": 0.5,
    "images_per_second": 12_345.6,
    "batch_size": 500,
}
COUNTS = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])


def made(**changes) -> dict:
    rows = evaluation.by_class(COUNTS, ["cat", "dog", "eel"])
    return {"dataset": "mine", "split": "test", "images": 400, "model": MODEL, "by_class": rows, **changes}


def test_by_class_counts_rows_and_columns():
    cat, dog, eel = evaluation.by_class(COUNTS, ["cat", "dog", "eel"])
    assert (cat["images"], cat["accuracy"], cat["mistaken_for"]) == (10, 0.8, "dog")
    assert cat["precision"] == pytest.approx(8 / 9)
    assert cat["interval"] == list(wilson_interval(8, 10))
    assert dog["precision"] == pytest.approx(4 / 6)
    assert (eel["images"], eel["accuracy"], eel["precision"], eel["mistaken_for"]) == (0, None, None, None)


def test_the_page_of_one_model():
    page = evaluation.page(made(said=0.51), ["reliability", "confusion"])
    assert "conv_1 (ONNX) names 50.0% (45.0 to 55.0) of 400 images correctly" in page
    assert "measured 51.0% on the same images" in page
    assert "165.2k" in page
    assert "662.0kB" in page
    assert "12,346" in page
    assert "figures/confusion.png" in page
    assert "mistakes.png" not in page
    assert "conv 1" not in page


def test_the_page_says_what_may_mislead():
    assert "selected on validation images" in evaluation.page(made(split="validation"), [])
    assert "aren't the data that it was trained on" in evaluation.page(made(other_data=True), [])


def test_the_page_of_two_models_says_whether_it_is_luck():
    found = {"difference": -0.02, "interval": (-0.05, 0.01), "p_value": 0.21, "agreement": 0.9}
    found |= {"only_first": 10, "only_second": 18}
    page = evaluation.page(made(against={**MODEL, "kind": "litert"}, comparison=found), [])
    assert "conv_1 (ONNX) is -2.0 points (-5.0 to +1.0) from conv_1 (LiteRT)" in page
    assert "they may be equally good" in page
    assert "| the first" in page
    assert "| the second" in page
    assert "tell the two apart" not in page
    few = evaluation.page(made(against=MODEL, comparison={**found, "only_first": 4, "only_second": 0}), [])
    assert "Only 4 images tell the two apart" in few
    assert "the interval is too narrow. Go by the test." in few
    sure = evaluation.page(made(against=MODEL, comparison={**found, "p_value": 1e-9}), [])
    assert "p = 1e-09 by McNemar's test: more than the luck of these images" in sure


def test_two_runs_of_one_network_are_told_apart_by_their_folders():
    found = {"difference": 0.1, "interval": (0.05, 0.15), "p_value": 0.01, "agreement": 0.9}
    found |= {"only_first": 60, "only_second": 20}
    runs = [{**MODEL, "kind": "run", "label": name} for name in ("distilled", "on_labels")]
    page = evaluation.page(made(model=runs[0], against=runs[1], comparison=found), [])
    assert "conv_1 (distilled) is +10.0 points (+5.0 to +15.0) from conv_1 (on_labels)" in page
    assert "## Against conv_1 (on_labels)" in page
