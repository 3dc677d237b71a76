"""The first losses of networks of the registry, from the same weights and the same epoch plan, must be those
in first_losses.json on every backend.

`python -m tests.training.test_backends_agree` writes that file, on the backend in KERAS_BACKEND.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from kapp import models
from kapp.data import Augmentation, pipelines
from kapp.training import Distiller, Learner
from tests.training.helpers import StepLosses, random_dataset

FILE = Path(__file__).with_name("first_losses.json")
EXPERIMENTS = ("deep_resnet", "conv_2", "linear_4", "conv_2 from deep_resnet")


def network(name: str, seed: int) -> keras.Model:
    """The kernels are drawn as He et al. draw them, by NumPy, so that they are the same on every backend. The
    logits are small: with large ones, rounding errors grow too fast in 36 layers of float32."""
    model = models.build(name, width=0.06)
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if weight.path.endswith("kernel"):
            fan_in = np.prod(weight.shape[:-1])
            scale = 0.1 if "logits" in weight.path else (2 / fan_in) ** 0.5
            weight.assign(random.normal(0, scale, weight.shape))
    return model


def first_losses(experiment: str) -> list[float]:
    name, _, teacher = experiment.partition(" from ")
    student, dataset, losses = network(name, 1), random_dataset(), StepLosses()
    learner = Distiller(network(teacher, 2), student, dataset) if teacher else Learner(student, dataset)
    learner.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    batches = pipelines.train_batches(dataset.train.samples, 16, seed=5, augmentation=Augmentation())
    learner.fit(batches, steps_per_epoch=4, verbose=0, shuffle=False, callbacks=[losses])
    return losses.steps


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_first_losses_are_the_same_on_every_backend(experiment):
    expected = json.loads(FILE.read_text())[experiment]
    np.testing.assert_allclose(first_losses(experiment), expected, rtol=2e-3)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: first_losses(name) for name in EXPERIMENTS}, indent=2) + "\n")
