"""What the tests of exports and evaluations share."""

import dataclasses
from collections.abc import Callable

import numpy as np

from kapp.export.predictor import Predictor
from kapp.records import ExportManifest, Parity, RunSummary, Software, TensorSpec

RUN = RunSummary(
    name="a-run",
    dataset="mine",
    data_sha256="0" * 64,
    seed=0,
    teachers=(),
    distillation_loss=None,
    label_weight=None,
    epochs=2,
    backend="jax",
    precision="float32",
    commit="0123abc",
    validation_images=40,
    test_images=50,
    test_accuracy=0.5,
    test_interval=(0.4, 0.6),
    test_loss=1.0,
    calibration_error=0.1,
)
MANIFEST = ExportManifest(
    format="onnx",
    name="linear_3",
    classes=("cat", "dog"),
    inputs={"images": TensorSpec((None, 8, 8, 3), "uint8")},
    outputs={"probabilities": TensorSpec((None, 2), "float32")},
    parameters=1000,
    flops=None,
    parity=Parity(images=5, compared_on="noise", max_difference=1e-7, tolerance=1e-4, agreement=1.0),
    run=RUN,
    source_file="model.keras",
    source_sha256="0" * 64,
    software=Software("0.1.0", "0123abc", {"onnx": None}),
    sha256={},
)


def run_summary(**changes) -> RunSummary:
    """`RUN` with other values."""
    return dataclasses.replace(RUN, **changes)


def manifest(**changes) -> ExportManifest:
    """`MANIFEST` with other values."""
    return dataclasses.replace(MANIFEST, **changes)


class FakeRuntime:
    """A runtime that calls a function."""

    device = "CPU"

    def __init__(self, predict_batch: Callable[[np.ndarray], np.ndarray], image_shape=(8, 8, 3)):
        self.predict_batch = predict_batch
        self.image_shape = image_shape


def predictor(
    predict_batch: Callable[[np.ndarray], np.ndarray], image_shape=(8, 8, 3), **values
) -> Predictor:
    """A model called "mine" that predicts what `predict_batch` returns."""
    return Predictor("mine", "onnx", FakeRuntime(predict_batch, image_shape), **values)
