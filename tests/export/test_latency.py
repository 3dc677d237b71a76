"""The latency of one image and the throughput of batches."""

import numpy as np

from kapp.export import latency
from tests.export.helpers import predictor


def test_times_one_image_and_a_whole_batch():
    images = np.zeros((7, 8, 8, 3), np.uint8)
    shapes = []
    found = latency.measure(predictor(lambda batch: shapes.append(batch.shape)), images, batch_size=10)
    assert set(shapes) == {(1, 8, 8, 3), (10, 8, 8, 3)}
    assert found.latency_ms > 0
    assert found.images_per_second > 0
