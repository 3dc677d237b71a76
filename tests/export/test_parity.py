"""Parity detects exports that differ from their network."""

import numpy as np
import pytest

from kapp.errors import KappError
from kapp.export import parity
from tests.export.helpers import predictor

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
PROBABILITIES = np.random.default_rng(1).dirichlet(np.ones(3), 7)


def look_up(images: np.ndarray) -> np.ndarray:
    """The probabilities of these images, any of `IMAGES`."""
    return PROBABILITIES[[int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0]) for image in images]]


def measure(predict_batch, tolerance: float = 1e-4):
    return parity.measure(PROBABILITIES, predictor(predict_batch), IMAGES, tolerance, "noise")


def test_measures_the_largest_difference():
    found = measure(lambda images: look_up(images) + 1e-6)
    assert found.max_difference == pytest.approx(1e-6)
    assert (found.images, found.tolerance, found.agreement, found.compared_on) == (7, 1e-4, 1.0, "noise")


def test_predicts_one_image_alone_as_well():
    with pytest.raises(KappError, match=r"by 1.0e-03 in a probability, and the tolerance is 1e-04"):
        measure(lambda images: look_up(images) + (len(images) == 1) * 1e-3)


@pytest.mark.parametrize(
    "predict_batch",
    [
        lambda images: look_up(images)[:, ::-1],  # another order of classes
        lambda images: look_up(images[::-1]),  # another order of images
        lambda images: np.log(look_up(images)) * 2,  # other logits
    ],
)
def test_detects_an_export_that_differs_from_its_network(predict_batch):
    with pytest.raises(KappError, match="onnx export differs from the network"):
        measure(predict_batch, tolerance=1e-2)


def test_detects_another_number_of_classes():
    with pytest.raises(KappError, match=r"predicts \(7, 2\), the network \(7, 3\)"):
        measure(lambda images: look_up(images)[:, :2])
