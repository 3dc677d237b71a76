"""Records of a small run, for tests that need one."""

import dataclasses

from kapp.records import RunConfig, RunResult

CONFIG = RunConfig("train", "tensorflow", "0" * 64, {"model": "linear_3", "seed": 0, "out": None})
RESULT = RunResult(
    recipe="train",
    model="linear_3",
    dataset="cifar10",
    seed=0,
    backend="tensorflow",
    precision="float32",
    device="CPU",
    commit="0123456789ab",
    epochs=2,
    best_epoch=1,
    hyperparameters={"learning_rate": 0.001, "batch_size": 32},
    parameters=1000,
    flops=2000,
    train_images=40_000,
    validation_images=10_000,
    test_images=10_000,
    val_accuracy=0.5,
    test_accuracy=0.49,
    test_interval=(0.48, 0.5),
    test_loss=1.5,
    calibration_error=0.05,
    train_images_per_second=1000.0,
    seconds=60.0,
)


def row(epoch: float, **values: float) -> dict[str, float]:
    """A row of metrics.csv, with some values changed."""
    names = "loss accuracy val_loss val_accuracy learning_rate images_per_second seconds".split()
    return {"epoch": epoch, **dict.fromkeys(names, 1.0), **values}


def config(**settings) -> RunConfig:
    """`CONFIG` with other settings."""
    return dataclasses.replace(CONFIG, settings={**CONFIG.settings, **settings})
