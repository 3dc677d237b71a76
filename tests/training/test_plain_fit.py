"""Keras's own layers, `fit` and optimisers are the reference for every faster way that kapp takes: from the
same weights and images they make the same losses."""

import keras
import numpy as np
import pytest
from keras import ops

from kapp import models
from kapp.data import Views, epochs, feeds
from kapp.models import loops
from kapp.papers.training import Training
from kapp.training import Learner, optimizers
from tests.data.test_views import plainly
from tests.training.test_backends_agree import dataset
from tests.training.test_steps import Losses

BATCH, STEPS, VIEWS = 16, 4, Views()


def plain(network: keras.Model) -> keras.Model:
    """The same, of Keras's own layers alone: what a file of it holds."""
    copy = keras.models.model_from_json(network.to_json())
    copy.set_weights(network.get_weights())
    assert all(type(layer).__module__.startswith("keras.src.") for layer in copy._flatten_layers())
    return copy


def images_and_labels(data):
    order, view = epochs.table(5, 0, len(data.train), VIEWS)
    samples = data.train.samples[order]
    shown = np.stack([plainly(data.images[i], v, VIEWS.shift, VIEWS.flip) for i, v in zip(samples, view)])
    return shown, data.labels[samples]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["16c^2-mp-24c-mp-32fc-10fc", "shallow_resnet", "all_cnn_c"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_losses_are_those_of_plain_fit(name, optimizer, policy, monkeypatch):
    if optimizer == "sgd":
        monkeypatch.setattr(loops, "LARGE", 0)  # every loop is compiled
    width = 1.0 if "-" in name else 0.06
    keras.config.set_dtype_policy(policy)
    try:
        network = models.build(name, width=width, seed=3)
        reference = plain(network)
    finally:
        keras.config.set_dtype_policy("float32")
    for each in (network, reference):
        for layer in each.layers:
            if "dropout" in layer.name:
                layer.rate = 0  # each draws coins of its own
    data = dataset()
    images, labels = images_and_labels(data)

    learner, ours = Learner(network, data, VIEWS), Losses()
    how = Training(batch_size=BATCH, optimizer=optimizer, learning_rate=0.001, momentum=0.9)
    learner.compile(optimizers.make(how))
    feed = feeds.training(data.train.samples, BATCH, seed=5, views=VIEWS)
    learner.fit(feed, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[ours])

    theirs = Losses()
    kind = {"adam": keras.optimizers.Adam(0.001), "sgd": keras.optimizers.SGD(0.001, 0.9)}[optimizer]
    reference.compile(kind, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    reference.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[theirs])

    np.testing.assert_allclose(ours.steps, theirs.steps, rtol=1e-4 if policy == "float32" else 0.02)
    if (
        policy == "float32" and optimizer == "sgd"
    ):  # Adam's first steps go by a gradient's sign, however small
        for one, other in zip(network.get_weights(), reference.get_weights()):
            np.testing.assert_allclose(one, other, rtol=0.01, atol=5e-4)


def test_adam_is_keras_own():
    random = np.random.default_rng(0)
    ours = optimizers.make(
        Training(batch_size=1, optimizer="adamw", learning_rate=0.01, momentum=0.8, weight_decay=0.1)
    )
    theirs = keras.optimizers.AdamW(0.01, beta_1=0.8, weight_decay=0.1)
    start = random.normal(size=(40, 30))
    weights = [keras.Variable(start, dtype="float32", name="kernel") for _ in range(2)]
    for _ in range(5):
        gradient = random.normal(size=(40, 30)) * 10 ** random.uniform(-9, 0, (40, 30))  # some near epsilon
        for optimizer, weight in zip((ours, theirs), weights):
            optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [weight])
    one, other = (ops.convert_to_numpy(weight) - start for weight in weights)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
