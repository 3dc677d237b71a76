"""Every backend's training step against NumPy, so that the backends agree with each other."""

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Augmentation, pipelines, sampling
from kapp.training import Distiller, Learner
from tests.helpers import crop_and_flip
from tests.training import reference
from tests.training.helpers import StepLosses, predict, to_numpy

MEAN, STD = (120.0, 125.0, 130.0), (50.0, 55.0, 60.0)
RATE, BATCH, STEPS, AUGMENTATION = 0.5, 8, 4, Augmentation(crop_padding=1)


@pytest.fixture(scope="module")
def tiny():
    random = np.random.default_rng(4)
    images = random.integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)
    labels = random.integers(0, 3, 40).astype(np.int32)
    samples = np.arange(40, dtype=np.int32)
    parts = [data.Split(images, labels, part) for part in (samples[:32], samples[32:36], samples[36:])]
    return data.Dataset("tiny", images, labels, ("a", "b", "c"), *parts)


def network(seed: int, notation: str = "4c-mp-6fc-3fc") -> keras.Model:
    """The weights are drawn by NumPy, so that they are the same on every backend."""
    model = models.build(notation, 3, image_shape=(6, 6, 3), mean=MEAN, std=STD)
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(random.normal(weight.path.endswith("gamma"), 0.3, weight.shape))
    return model


def weights_of(network: keras.Model) -> dict[str, np.ndarray]:
    weights = network.trainable_weights
    return {"/".join(weight.path.split("/")[-2:]): to_numpy(weight).astype(np.float64) for weight in weights}


def batches(dataset):
    """Images and labels of each step."""
    order, view = sampling.epoch_plan(9, 0, len(dataset.train), AUGMENTATION)
    for start in range(0, STEPS * BATCH, BATCH):
        samples = dataset.train.samples[order[start : start + BATCH]]
        views = zip(samples, view[start : start + BATCH])
        images = [crop_and_flip(dataset.images[s], v, AUGMENTATION.crop_padding, True) for s, v in views]
        yield np.stack(images), dataset.labels[samples]


def check_steps(learner, dataset, weights, losses) -> None:
    """Train for some steps; compare the loss of each, and the weights after them, with NumPy's."""
    expected = [reference.descend(weights, loss, RATE) for loss in losses]
    callback = StepLosses()
    feed = pipelines.train_batches(dataset.train.samples, BATCH, seed=9, augmentation=AUGMENTATION)
    learner.fit(feed, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[callback])
    np.testing.assert_allclose(callback.steps, expected, rtol=2e-4)
    for name, array in weights_of(learner.network).items():
        np.testing.assert_allclose(array, weights[name], atol=2e-3, err_msg=name)


def test_the_steps_of_a_learner_are_numpys(tiny):
    model = network(1)
    learner = Learner(model, tiny, AUGMENTATION)
    learner.compile(keras.optimizers.SGD(RATE))
    losses = [
        lambda w, x=x, y=y: reference.cross_entropy(reference.forward(w, x, MEAN, STD), y)
        for x, y in batches(tiny)
    ]
    check_steps(learner, tiny, weights_of(model), losses)


def test_the_steps_of_a_distiller_are_numpys(tiny):
    student, teacher = network(1), network(2, "8fc-3fc")
    distiller = Distiller(teacher, student, tiny, AUGMENTATION)
    distiller.compile(keras.optimizers.SGD(RATE), distillation_loss="prob_mse", label_weight=0.25)

    def loss(w, x, y, z):
        logits = reference.forward(w, x, MEAN, STD)
        return 0.75 * reference.prob_mse(logits, z) + 0.25 * reference.cross_entropy(logits, y)

    teacher_logits = [predict(teacher, x) for x, _ in batches(tiny)]
    losses = [lambda w, x=x, y=y, z=z: loss(w, x, y, z) for (x, y), z in zip(batches(tiny), teacher_logits)]
    check_steps(distiller, tiny, weights_of(student), losses)
