"""Every backend's training step against NumPy: hence the backends agree with each other."""

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Views, epochs, feeds
from kapp.training import Distiller, Learner
from tests.data.test_views import plainly
from tests.training import reference

MEAN, STD = (120.0, 125.0, 130.0), (50.0, 55.0, 60.0)
RATE, BATCH, STEPS, VIEWS = 0.5, 8, 4, Views(shift=1)


class Losses(keras.callbacks.Callback):
    """The running mean after each step, turned back into each step's own loss."""

    def on_train_begin(self, logs=None):
        self.steps, self.before = [], 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.steps.append(total - self.before)
        self.before = total


@pytest.fixture(scope="module")
def tiny():
    random = np.random.default_rng(4)
    images = random.integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)
    labels = random.integers(0, 3, 40).astype(np.int32)
    samples = np.arange(40, dtype=np.int32)
    parts = [data.Split(images, labels, part) for part in (samples[:32], samples[32:36], samples[36:])]
    return data.Dataset("tiny", images, labels, ("a", "b", "c"), *parts)


def network(seed: int, first: str = "4c-mp-6fc-3fc") -> keras.Model:
    """Weights from NumPy, so that they are the same on every backend."""
    built = models.build(first, 3, image_shape=(6, 6, 3), mean=MEAN, std=STD)
    random = np.random.default_rng(seed)
    for weight in built.trainable_weights:
        weight.assign(random.normal(weight.path.endswith("gamma"), 0.3, weight.shape))
    return built


def weights_of(network: keras.Model) -> dict[str, np.ndarray]:
    arrays = {}
    for weight in network.trainable_weights:
        layer, kind = weight.path.split("/")[-2:]
        arrays[f"{layer}/{kind}"] = keras.ops.convert_to_numpy(weight).astype(np.float64)
    return arrays


def batches(dataset):
    order, view = epochs.table(9, 0, len(dataset.train), VIEWS)
    for i in range(STEPS):
        part = slice(i * BATCH, (i + 1) * BATCH)
        shown = zip(dataset.train.samples[order[part]], view[part])
        yield (
            np.stack([plainly(dataset.images[s], v, VIEWS.shift, VIEWS.flip) for s, v in shown]),
            dataset.labels[dataset.train.samples[order[part]]],
        )


def trained(learner, dataset) -> list[float]:
    losses = Losses()
    feed = feeds.training(dataset.train.samples, BATCH, seed=9, views=VIEWS)
    learner.fit(feed, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[losses])
    return losses.steps


def test_a_learners_steps_are_numpys(tiny):
    net = network(1)
    weights = weights_of(net)
    expected = [
        reference.descend(
            weights,
            lambda w, x=x, y=y: reference.cross_entropy(reference.forward(w, x, MEAN, STD), y),
            RATE,
        )
        for x, y in batches(tiny)
    ]
    learner = Learner(net, tiny, VIEWS)
    learner.compile(keras.optimizers.SGD(RATE))
    np.testing.assert_allclose(trained(learner, tiny), expected, rtol=2e-4)
    for name, array in weights_of(net).items():
        np.testing.assert_allclose(array, weights[name], atol=2e-3, err_msg=name)


def test_a_distillers_steps_are_numpys(tiny):
    net, teacher = network(1), network(2, "8fc-3fc")
    answers = [keras.ops.convert_to_numpy(teacher(x, training=False)) for x, _ in batches(tiny)]
    weights = weights_of(net)

    def loss(w, x, y, z):
        logits = reference.forward(w, x, MEAN, STD)
        return 0.75 * reference.prob_mse(logits, z) + 0.25 * reference.cross_entropy(logits, y)

    expected = [
        reference.descend(weights, lambda w, x=x, y=y, z=z: loss(w, x, y, z), RATE)
        for (x, y), z in zip(batches(tiny), answers)
    ]
    distiller = Distiller(net, teacher, tiny, VIEWS)
    distiller.compile(keras.optimizers.SGD(RATE), objective="prob_mse", label_weight=0.25)
    np.testing.assert_allclose(trained(distiller, tiny), expected, rtol=2e-4)
    for name, array in weights_of(net).items():
        np.testing.assert_allclose(array, weights[name], atol=2e-3, err_msg=name)
