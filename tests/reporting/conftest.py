"""Run folders made up for the tests: the files of a run without the training."""

import math
from pathlib import Path

import numpy as np
import pytest

from kapp.reporting.scores import wilson_interval
from kapp.runs import Run

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def fabricate(folder: Path, model: str = "linear_3", accuracy: float = 0.55, **changes) -> Run:
    """A finished run of `model` that scores `accuracy`; `changes` replace keys of its result."""
    teachers = changes.get("teachers", [])
    result = {
        "recipe": "distill" if teachers else "train",
        "model": model,
        "teachers": teachers,
        "objective": "prob_mse" if teachers else "cross_entropy",
        "temperature": 4.0,
        "label_weight": 0.0,
        "dataset": "cifar10",
        "seed": 0,
        "backend": "tensorflow",
        "precision": "float32",
        "device": "CPU",
        "parameters": 10_510_346,
        "flops": 21_000_000,
        "epochs": 40,
        "best_epoch": 31,
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "width": 1.0,
        "train_images": 40_000,
        "validation_images": 10_000,
        "test_images": 10_000,
        "val_accuracy": accuracy + 0.004,
        "test_accuracy": accuracy,
        "test_interval": list(wilson_interval(round(10_000 * accuracy), 10_000)),
        "test_loss": 1.2345,
        "calibration_error": 0.0678,
        "train_images_per_second": 12_345.6,
        "seconds": 754.0,
        "commit": "0123abc",
        "status": "finished",
        **changes,
    }
    run = Run.start(folder, {"recipe": result["recipe"], "model": model, "seed": result["seed"]})
    random = np.random.default_rng(result["seed"])
    run.write_epochs([_epoch(i, result, random) for i in range(1, result["epochs"] + 1)])
    errors = random.dirichlet(np.ones(len(CLASSES)), len(CLASSES)) * (1 - accuracy)
    shares = errors + accuracy * np.eye(len(CLASSES))
    run.write_confusion((1000 * shares).round().astype(int).tolist(), CLASSES)
    run.write_result(result)
    run.write_environment({"commit": result["commit"]})
    return run


def _epoch(epoch: int, result: dict, random: np.random.Generator) -> dict[str, float]:
    """One row of metrics: training goes on improving, validation levels off."""
    learned = 1 - math.exp(-epoch / 8)
    row = {
        "epoch": epoch,
        "loss": 2.3 - 1.9 * learned,
        "accuracy": 0.1 + (result["test_accuracy"] + 0.1) * learned,
        "val_loss": 2.3 - 1.2 * learned + 0.01 * epoch + random.normal(0, 0.02),
        "val_accuracy": 0.1 + (result["test_accuracy"] - 0.1) * learned + random.normal(0, 0.006),
        "learning_rate": 1e-3,
        "images_per_second": 12_000.0,
        "seconds": 3.2,
    }
    if result["teachers"]:
        row |= {"loss": 0.09 - 0.06 * learned, "val_loss": 0.09 - 0.05 * learned}
        row |= {"agreement": row["accuracy"] + 0.03, "val_agreement": row["val_accuracy"] + 0.03}
    return row


@pytest.fixture
def make_run(tmp_path):
    """`make_run("name", "linear_3", 0.55, seed=1)`: a finished run folder."""

    def make(name: str, model: str = "linear_3", accuracy: float = 0.55, **changes) -> Run:
        return fabricate(tmp_path / name, model, accuracy, **changes)

    return make
