"""Run folders without training, and how to read tables and figures back."""

import dataclasses
import math
import re
from pathlib import Path

import matplotlib.image
import numpy as np

from kapp.metrics.classification import wilson_interval
from kapp.records import Environment, RunConfig, RunResult
from kapp.run_folder import Predictions, Run

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
SETTINGS = {"width": 1.0, "temperature": 4.0, "label_weight": 0.0}
HYPERPARAMETERS = {"batch_size": 32, "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant"}
RESULT = {
    "dataset": "cifar10",
    "seed": 0,
    "backend": "tensorflow",
    "precision": "float32",
    "device": "CPU",
    "commit": "0123abc",
    "epochs": 40,
    "best_epoch": 31.0,
    "parameters": 10_510_346,
    "flops": 21_000_000,
    "train_images": 40_000,
    "validation_images": 10_000,
    "test_images": 10_000,
    "test_loss": 1.2345,
    "calibration_error": 0.0678,
    "train_images_per_second": 12_345.6,
    "seconds": 754.0,
}


def fabricate(folder: Path, model: str = "linear_3", accuracy: float = 0.55, **changes) -> Run:
    """A finished run of `model` with this test accuracy.

    Args:
        folder: of the run.
        model: its name.
        accuracy: on the test images, a fraction.
        changes: other values of its result, its hyperparameters or its settings, by name.
    """
    fields = {each.name for each in dataclasses.fields(RunResult)}
    teachers = tuple(changes.get("teachers", ()))
    values = {
        **RESULT,
        "recipe": "distill" if teachers else "train",
        "model": model,
        "val_accuracy": accuracy + 0.004,
        "test_accuracy": accuracy,
        "test_interval": wilson_interval(round(10_000 * accuracy), 10_000),
        "hyperparameters": HYPERPARAMETERS | {k: v for k, v in changes.items() if k in HYPERPARAMETERS},
        **{key: value for key, value in changes.items() if key in fields},
        "teachers": teachers,
    }
    result = RunResult(**values)
    settings = {"distillation_loss": "prob_mse", **SETTINGS} if teachers else dict(SETTINGS)
    settings |= {key: value for key, value in changes.items() if key not in fields}
    settings |= {"model": model, "seed": result.seed}
    data = settings.pop("data_sha256", "0" * 64)
    run = Run.create(folder, RunConfig(result.recipe, result.backend, data, settings))
    random = np.random.default_rng(result.seed)
    run.write_metrics([_epoch(i, result, random) for i in range(1, result.epochs + 1)])
    errors = random.dirichlet(np.ones(len(CLASSES)), len(CLASSES)) * (1 - accuracy)
    fractions = errors + accuracy * np.eye(len(CLASSES))
    run.write_confusion((1000 * fractions).round().astype(int).tolist(), CLASSES)
    run.write_environment(
        Environment("0", result.commit, "3", "Linux", result.backend, result.device, 1, 2, {}, "0" * 64)
    )
    run.write_result(result)
    return run


def add_predictions(run: Run, agreement_noise: float = 0.1) -> None:
    """Write predictions of 10,000 test images to `run`: as many are correct as its test accuracy says.

    Images are equally difficult for all runs, but for noise that depends on the name of the run's folder.
    """
    count, classes = 10_000, len(CLASSES)
    labels = np.arange(count, dtype=np.int32) % classes
    random = np.random.default_rng(list(run.folder.name.encode()))
    difficulty = np.random.default_rng(0).random(count) + agreement_noise * random.random(count)
    is_wrong = np.ones(count, np.int32)
    is_wrong[np.argsort(difficulty)[: round(count * run.result.test_accuracy)]] = 0
    predicted = (labels + is_wrong).astype(np.int32) % classes
    none = np.zeros(0, np.int32)
    logits = np.eye(classes, dtype=np.float16)
    samples = np.arange(count, dtype=np.int32)
    run.write_predictions(
        Predictions(samples, labels, logits[predicted], predicted, none, none, logits[none], none)
    )


def _epoch(epoch: int, result: RunResult, random: np.random.Generator) -> dict[str, float]:
    """One row of metrics: training improves, validation levels off."""
    learned = 1 - math.exp(-epoch / 8)
    row = {
        "epoch": epoch,
        "loss": 2.3 - 1.9 * learned,
        "accuracy": 0.1 + (result.test_accuracy + 0.1) * learned,
        "val_loss": 2.3 - 1.2 * learned + 0.01 * epoch + random.normal(0, 0.02),
        "val_accuracy": 0.1 + (result.test_accuracy - 0.1) * learned + random.normal(0, 0.006),
        "learning_rate": 1e-3,
        "images_per_second": 12_000.0,
        "seconds": 3.2,
    }
    if result.teachers:
        row |= {"loss": 0.09 - 0.06 * learned, "val_loss": 0.09 - 0.05 * learned}
        row |= {"agreement": row["accuracy"] + 0.03, "val_agreement": row["val_accuracy"] + 0.03}
    return row


def cells(text: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table in `text`."""
    lines = re.search(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    split = (
        [re.split(r" *(?<!\\)\| *", line.strip())[1:-1] for line in lines[0].splitlines()] if lines else []
    )
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def assert_links_exist(text: str, folder: Path, least: int = 1) -> None:
    """Every link and image of a report in `folder` is relative and leads to a file; figures aren't empty."""
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= least
    for link in links:
        assert not Path(link).is_absolute()
        assert (folder / link).exists(), link
        assert not link.endswith(".png") or (folder / link).stat().st_size > 5_000


def assert_figure(path: Path, size: tuple[int, int] = (400, 400)) -> None:
    """`path` is a PNG of at least this width and height, not blank, and the only file of its kind."""
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] >= size[0]
    assert pixels.shape[0] >= size[1]
    assert pixels[..., :3].std() > 0.02
    assert [file.name for file in path.parent.glob("*.png")] == [path.name]
    assert not list(path.parent.glob(".*"))


def texts(axes) -> list[str]:
    """The texts inside `axes`."""
    return [text.get_text() for text in axes.texts]
