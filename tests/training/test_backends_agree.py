"""The first losses of a seed are the same on every backend: those of first_losses.json, which first_losses.py
computes in plain PyTorch."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from kapp import models
from kapp.data import Augmentation, pipelines
from kapp.training import Distiller, Learner
from tests.training.helpers import StepLosses, random_dataset

EXPECTED = json.loads(Path(__file__).with_name("first_losses.json").read_text())


@pytest.mark.parametrize("experiment", EXPECTED)
def test_the_first_losses_are_the_same_on_every_backend(experiment):
    learning_rate, expected = EXPECTED[experiment].values()
    name, _, teacher = experiment.partition(" from ")
    student, dataset, losses = models.build(name, width=0.06, seed=1), random_dataset(), StepLosses()
    if teacher:
        learner = Distiller(models.build(teacher, width=0.06, seed=2), student, dataset)
    else:
        learner = Learner(student, dataset)
    learner.compile(keras.optimizers.SGD(learning_rate, momentum=0.9))
    batches = pipelines.train_batches(dataset.train.samples, 16, seed=5, augmentation=Augmentation())
    learner.fit(batches, steps_per_epoch=5, verbose=0, shuffle=False, callbacks=[losses])  # an epoch has 4
    # In 36 layers rounding errors grow with each step, in PyTorch's float32, too: there to 2e-4.
    np.testing.assert_allclose(losses.steps, expected, rtol=1e-3 if name == "deep_resnet" else 1e-4)
