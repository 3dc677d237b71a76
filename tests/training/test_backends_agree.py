"""The first losses of whole networks of the catalogue, from the same weights and the same epoch table: every
backend, each in a process of its own, must find those that were written down.

`python -m tests.training.test_backends_agree` writes them down anew, on the backend that KERAS_BACKEND names.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Views, feeds
from kapp.training import Distiller, Learner
from tests.training.test_steps import Losses

WRITTEN = Path(__file__).with_name("first_losses.json")
NETWORKS = ("deep_resnet", "conv_2", "linear_4")
STEPS, BATCH, VIEWS = 4, 16, Views()


def dataset() -> data.Dataset:
    random = np.random.default_rng(11)
    images = random.integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    labels = random.integers(0, 10, 80).astype(np.int32)
    samples = np.arange(80, dtype=np.int32)
    parts = [data.Split(images, labels, part) for part in (samples[:64], samples[64:72], samples[72:])]
    return data.Dataset("random", images, labels, tuple("abcdefghij"), *parts)


def network(name: str, seed: int) -> keras.Model:
    """Kernels as He et al. would draw them, from NumPy, so that they are the same on every backend; small
    logits, because 36 layers of float32 make a chaos of a steep start within a few steps."""
    built = models.build(name, width=0.06)
    random = np.random.default_rng(seed)
    for weight in built.trainable_weights:
        if weight.path.endswith("kernel"):
            fan_in = np.prod(weight.shape[:-1])
            spread = 0.1 if "logits" in weight.path else (2 / fan_in) ** 0.5
            weight.assign(random.normal(0, spread, weight.shape))
    return built


def first_losses(name: str, teacher: str | None = None) -> list[float]:
    student, images = network(name, 1), dataset()
    learner = (
        Distiller(student, network(teacher, 2), images, VIEWS) if teacher else Learner(student, images, VIEWS)
    )
    learner.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    losses = Losses()
    feed = feeds.training(images.train.samples, BATCH, seed=5, views=VIEWS)
    learner.fit(feed, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[losses])
    return losses.steps


def measured() -> dict[str, list[float]]:
    losses = {name: first_losses(name) for name in NETWORKS}
    return {**losses, "conv_2 from deep_resnet": first_losses("conv_2", "deep_resnet")}


@pytest.mark.parametrize("experiment", [*NETWORKS, "conv_2 from deep_resnet"])
def test_the_first_losses_are_the_same_on_every_backend(experiment):
    name, _, teacher = experiment.partition(" from ")
    written = json.loads(WRITTEN.read_text())[experiment]
    np.testing.assert_allclose(first_losses(name, teacher or None), written, rtol=2e-3)


if __name__ == "__main__":
    WRITTEN.write_text(json.dumps(measured(), indent=2) + "\n")
