"""Many evaluations as one page: what stands in it, and what is refused."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.reporting.test_evaluation import MODEL

PARITY = {"images": 500, "largest_difference": 3.2e-7, "tolerance": 1e-4, "same_class": 1.0}
FOUND = {"by_class": [], "dataset": "mine", "split": "test", "images": 400, "commit": "0123abc"}
COMPARISON = {"difference": -0.02, "interval": (-0.05, 0.01), "p_value": 0.21, "agreement": 0.9}
COMPARISON |= {"only_first": 10, "only_second": 18}


@pytest.fixture
def evaluated(tmp_path) -> Path:
    """An export, a run against it, and pictures without labels."""
    run = {**MODEL, "kind": "run", "accuracy": 0.48, "latency_ms": 7.25}
    made = {
        "a-onnx": {**FOUND, "model": {**MODEL, "parity": PARITY}},
        "a-run": {**FOUND, "model": run, "against": {**MODEL, "parity": PARITY}, "comparison": COMPARISON},
        "a-pictures": {"images": 7, "size": [32, 32], "model": {"name": "conv_1", "kind": "litert"}},
    }
    for name, found in made.items():
        (tmp_path / "evaluations" / name).mkdir(parents=True)
        (tmp_path / "evaluations" / name / "evaluation.json").write_text(json.dumps(found))
        (tmp_path / "evaluations" / name / "report.md").write_text(name)
        (tmp_path / "evaluations" / name / "figures").mkdir()
        for drawn in ("reliability", "mistakes", "pictures"):
            (tmp_path / "evaluations" / name / "figures" / f"{drawn}.png").write_bytes(b"drawn")
        (tmp_path / "evaluations" / name / "predictions.csv").write_text("image")
    return tmp_path


def test_a_record_shows_no_image_and_no_single_answer(evaluated, kapp):
    done = kapp("report", "--evaluations", *(evaluated / "evaluations").iterdir(), "--out", "mine")
    assert done.returncode == 0, done.stderr
    for record in (evaluated / "mine" / "evaluations").iterdir():
        files = {path.relative_to(record).as_posix() for path in record.rglob("*") if path.is_file()}
        assert files == {"evaluation.json", "report.md", "figures/reliability.png"}
        text = (record / "report.md").read_text()
        assert all((record / link).exists() for link in re.findall(r"\]\(([^)]+)\)", text))


def test_every_model_is_a_row_and_every_evaluation_is_kept(evaluated, kapp):
    words = ("--evaluations", *sorted((evaluated / "evaluations").iterdir()), "--note", "Why.", "--out")
    done = kapp("report", *words, "mine")
    assert done.returncode == 0, done.stderr
    out = evaluated / "mine"
    text = (out / "README.md").read_text()
    assert text.startswith("# Evaluations\n\nWhy.\n\n| model ")
    assert re.search(
        r"\| ONNX +\| mine, 400 test images \| 50.0% \(45.0 to 55.0\) +\| 3.2e-07 +\| 662.0kB", text
    )
    assert re.search(r"\| run folder \| .*\| 7.25 +\| 12,346, in batches of 500 \|", text)
    assert "conv_1 (run folder) is -2.0 points (-5.0 to +1.0) from conv_1 (ONNX)" in text
    assert "7 pictures by conv_1 (LiteRT)" in text
    assert all((out / link).exists() for link in re.findall(r"\]\(([^)]+)\)", text))
    rows = list(csv.DictReader((out / "rows.csv").open()))
    assert [(row["evaluation"], row["kind"], row["accuracy"]) for row in rows] == [
        ("a-onnx", "onnx", "0.5"),
        ("a-run", "run", "0.48"),
        ("a-run", "onnx", "0.5"),
    ]
    assert [row["largest_difference"] for row in rows] == ["3.2e-07", "", "3.2e-07"]
    again = kapp("report", "--evaluations", *sorted((out / "evaluations").iterdir()), *words[-3:], "mine")
    assert again.returncode == 0, again.stderr
    assert (out / "README.md").read_text() == text


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("", 2, "report needs one of --runs, --sweep and --evaluations"),
        ("--sweep trials --runs a", 2, "and one only"),
        ("--sweep trials", 2, "trials is not a sweep folder"),
        ("--runs trials", 2, "trials is not a run folder"),
        ("--evaluations evaluations", 2, "evaluations is not an evaluation: it holds no evaluation.json"),
        ("--evaluations evaluations/a-onnx other/a-onnx", 2, "two evaluations have one name"),
        ("--evaluations other/a-onnx", 1, "evaluation.json is damaged"),
    ],
)
def test_what_is_refused(evaluated, kapp, words, status, message):
    (evaluated / "other" / "a-onnx").mkdir(parents=True)
    (evaluated / "other" / "a-onnx" / "evaluation.json").write_text("{")
    done = kapp("report", *words.split(), "--out", "mine")
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert message in done.stderr
    assert not (evaluated / "mine").exists()
