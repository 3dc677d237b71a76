"""Reports of evaluations: one, two models, many, and what is refused."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from kapp import records
from kapp.metrics.classification import class_scores
from kapp.records import Comparison, Evaluation, ModelScores, Parity, Software, UnlabeledEvaluation
from kapp.reporting import evaluation_report
from tests.reporting.helpers import assert_links_exist, cells

MODEL = ModelScores(
    name="conv_1",
    label="conv_1-onnx",
    format="onnx",
    accuracy=0.5,
    interval=(0.45, 0.55),
    loss=1.25,
    calibration_error=0.031,
    parameters=165_218,
    flops=None,
    size_bytes=662_000,
    device="CPU, 2 cores",
    latency_ms=0.5,
    images_per_second=12_345.6,
    batch_size=500,
)
PARITY = Parity(500, "test images of mine", max_difference=3.2e-7, tolerance=1e-4, agreement=1.0)
COUNTS = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])
SOFTWARE = Software("0.1.0", "0123abc", {})
EVALUATION = Evaluation(
    dataset="mine",
    data_sha256="0" * 64,
    split="test",
    images=400,
    reported_accuracy=None,
    same_data=True,
    model=MODEL,
    by_class=class_scores(COUNTS, ["cat", "dog", "eel"]),
    calibration=(),
    software=SOFTWARE,
)
COMPARISON = Comparison(400, 0.9, 10, 18, -0.02, (-0.05, 0.01), 0.21)


def model(**changes) -> ModelScores:
    return dataclasses.replace(MODEL, **changes)


def report(folder: Path, **changes) -> str:
    """The text of report.md of `EVALUATION` with `changes`."""
    evaluation_report.write(dataclasses.replace(EVALUATION, **changes), folder)
    return (folder / "report.md").read_text()


def add_figures(folder: Path, *names: str) -> None:
    (folder / "figures").mkdir()
    for name in names:
        (folder / "figures" / f"{name}.png").write_bytes(b"figure" * 1000)


def test_the_report_of_one_model(tmp_path):
    add_figures(tmp_path, "reliability", "confusion")
    text = report(tmp_path, reported_accuracy=0.51)
    assert text.startswith(
        "# conv_1 on mine, test images\n\nconv_1 (ONNX) classifies 50.0% (45.0 to 55.0) of 400"
    )
    assert "run measured 51.0% on the same images" in text
    scores = {row[""]: row["value"] for row in cells(text.split("## Scores\n")[1])}
    assert scores["parameters"] == "165.2k"
    assert "FLOPs per image" not in scores
    assert (scores["size on disk"], scores["latency of one image, ms"]) == ("662.0kB", "0.50")
    assert "figures/confusion.png" in text
    assert "mistakes.png" not in text
    (tmp_path / "evaluation.json").write_text("{}")
    assert_links_exist(text, tmp_path, 3)


def test_the_table_of_classes(tmp_path):
    cat, _, eel = cells(report(tmp_path).split("## Classes\n")[1])
    assert cat == {
        "class": "cat",
        "images": "10",
        "recall (95% interval)": "80.0% (49.0 to 94.3)",
        "precision": "88.9%",
        "most often confused with": "dog",
    }
    assert list(eel.values()) == ["eel", "0", "", "", ""]


def test_the_report_warns_of_validation_images_and_of_other_data(tmp_path):
    assert "selected on validation images" in report(tmp_path, split="validation")
    assert "trained on other data" in report(tmp_path, same_data=False)


def test_the_report_of_two_models(tmp_path):
    both = {"compared_with": model(format="litert", label="conv_1-litert"), "comparison": COMPARISON}
    text = report(tmp_path, **both)
    assert (
        "conv_1 (ONNX) compared with conv_1 (LiteRT) on the same images: -2.0 points (-5.0 to +1.0)" in text
    )
    assert "not significant" in text
    assert list(cells(text)[0]) == ["", "first", "second"]
    assert "rely on the test" not in text
    few = report(
        tmp_path, **both | {"comparison": dataclasses.replace(COMPARISON, only_first=4, only_second=0)}
    )
    assert "the interval is too narrow: rely on the test." in few


def test_two_runs_of_one_network_are_named_by_their_labels(tmp_path):
    first, second = (model(format="run", label=name) for name in ("distilled", "on_labels"))
    text = report(tmp_path, model=first, compared_with=second, comparison=COMPARISON)
    assert "conv_1 (distilled) compared with conv_1 (on_labels)" in text
    assert "## Compared with conv_1 (on_labels)" in text


@pytest.fixture
def evaluated(tmp_path) -> Path:
    """An export, a run compared with it, and images without labels."""
    export = model(parity=PARITY)
    run = model(format="run", label="conv_1-run", accuracy=0.48, latency_ms=7.25)
    evaluations = {
        "a-onnx": dataclasses.replace(EVALUATION, model=export),
        "a-run": dataclasses.replace(EVALUATION, model=run, compared_with=export, comparison=COMPARISON),
        "an-images": UnlabeledEvaluation("conv_1", "litert", 7, (32, 32), SOFTWARE),
    }
    for name, evaluation in evaluations.items():
        folder = tmp_path / "evaluations" / name
        folder.mkdir(parents=True)
        records.write(evaluation, folder / "evaluation.json")
        add_figures(folder, "reliability", "mistakes", "images")
        (folder / "predictions.csv").write_text("image")
    return tmp_path


def test_a_copy_has_no_image_and_no_single_prediction(evaluated, kapp):
    done = kapp("report", "--evaluations", *(evaluated / "evaluations").iterdir(), "--out", "mine")
    assert done.returncode == 0, done.stderr
    for copy in (evaluated / "mine" / "evaluations").iterdir():
        files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
        assert files == {"evaluation.json", "report.md", "figures/reliability.png"}
        text = (copy / "report.md").read_text()
        assert "predictions.csv" not in text
        assert all((copy / link).exists() for link in re.findall(r"\]\(([^)]+)\)", text))


def test_the_summary_has_a_row_per_model_and_makes_itself_again(evaluated, kapp):
    words = ("--evaluations", *sorted((evaluated / "evaluations").iterdir()), "--note", "Why.", "--out")
    done = kapp("report", *words, "mine")
    assert done.returncode == 0, done.stderr
    out = evaluated / "mine"
    text = (out / "README.md").read_text()
    assert text.startswith("# Evaluations\n\nWhy.\n\n| model ")
    onnx, run, _ = cells(text)
    assert onnx["accuracy (95% interval)"] == "50.0% (45.0 to 55.0)"
    assert (onnx["format"], onnx["export difference"], onnx["size on disk"]) == ("ONNX", "3.2e-07", "662.0kB")
    assert (run["format"], run["latency of one image, ms"]) == ("run folder", "7.25")
    assert run["images per second"] == "12,346, in batches of 500"
    assert "conv_1 (run folder) compared with conv_1 (ONNX) on the same images: -2.0 points" in text
    assert "7 images classified by conv_1 (LiteRT)" in text
    assert_links_exist(text, out, 4)
    rows = list(csv.DictReader((out / "rows.csv").open()))
    assert [(row["evaluation"], row["format"], row["accuracy"]) for row in rows] == [
        ("a-onnx", "onnx", "0.5"),
        ("a-run", "run", "0.48"),
        ("a-run", "onnx", "0.5"),
    ]
    assert [row["parity_max_difference"] for row in rows] == ["3.2e-07", "", "3.2e-07"]
    again = kapp("report", "--evaluations", *sorted((out / "evaluations").iterdir()), *words[-3:], "mine")
    assert again.returncode == 0, again.stderr
    assert (out / "README.md").read_text() == text


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("", 2, "report needs exactly one of --runs, --sweep and --evaluations"),
        ("--sweep trials --runs a", 2, "exactly one"),
        ("--sweep trials", 2, "trials is not a sweep folder"),
        ("--runs trials", 2, "trials is not a run folder"),
        ("--evaluations evaluations", 2, "evaluations is not an evaluation: it has no evaluation.json"),
        ("--evaluations evaluations/a-onnx other/a-onnx", 2, "two evaluations have the same name"),
        ("--evaluations other/a-onnx", 1, "evaluation.json is damaged"),
    ],
)
def test_wrong_folders_are_refused(evaluated, kapp, words, status, message):
    (evaluated / "other" / "a-onnx").mkdir(parents=True)
    (evaluated / "other" / "a-onnx" / "evaluation.json").write_text("{")
    done = kapp("report", *words.split(), "--out", "mine")
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert message in done.stderr
    assert not (evaluated / "mine").exists()
