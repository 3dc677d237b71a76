"""Keras's own layers, `fit` and optimizers are the reference for kapp's faster ones: from the same weights
and images they have the same losses."""

import keras
import numpy as np
import pytest
from keras import ops

from kapp import models
from kapp.data import Augmentation, pipelines, sampling
from kapp.keras_internals import flatten_layers
from kapp.layers import compiled_ops
from kapp.papers.hparams import HParams
from kapp.training import Learner, optimizers
from tests.helpers import crop_and_flip
from tests.training.helpers import StepLosses, random_dataset

BATCH_SIZE, STEPS, AUGMENTATION = 16, 4, Augmentation()


def keras_copy(network: keras.Model) -> keras.Model:
    """A copy with Keras's own layers, as a file has them."""
    copy = keras.models.model_from_json(network.to_json())
    copy.set_weights(network.get_weights())
    assert all(type(layer).__module__.startswith("keras.src.") for layer in flatten_layers(copy))
    return copy


def images_and_labels(data):
    order, view = sampling.epoch_plan(5, 0, len(data.train), AUGMENTATION)
    samples = data.train.samples[order]
    views = zip(samples, view)
    images = [
        crop_and_flip(data.images[s], v, AUGMENTATION.crop_padding, AUGMENTATION.flip) for s, v in views
    ]
    return np.stack(images), data.labels[samples]


@pytest.mark.parametrize("policy", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["16c^2-mp-24c-mp-32fc-10fc", "shallow_resnet", "all_cnn_c"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_losses_are_those_of_plain_fit(name, optimizer, policy, monkeypatch):
    if optimizer == "sgd":
        monkeypatch.setattr(compiled_ops, "MIN_SIZE", 0)  # every loop is compiled
    width = 1.0 if "-" in name else 0.06
    keras.config.set_dtype_policy(policy)
    try:
        network = models.build(name, width=width, seed=3)
        reference = keras_copy(network)
    finally:
        keras.config.set_dtype_policy("float32")
    for each in (network, reference):
        for layer in each.layers:
            if "dropout" in layer.name:
                layer.rate = 0  # the two draw different random numbers
    data = random_dataset()
    images, labels = images_and_labels(data)

    learner, ours = Learner(network, data, AUGMENTATION), StepLosses()
    learner.compile(optimizers.build(HParams(1, BATCH_SIZE, optimizer, learning_rate=0.001), STEPS))
    batches = pipelines.train_batches(data.train.samples, BATCH_SIZE, seed=5, augmentation=AUGMENTATION)
    learner.fit(batches, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[ours])

    theirs = StepLosses()
    keras_own = {"adam": keras.optimizers.Adam(0.001), "sgd": keras.optimizers.SGD(0.001, 0.9)}[optimizer]
    reference.compile(keras_own, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    reference.fit(images, labels, batch_size=BATCH_SIZE, shuffle=False, verbose=0, callbacks=[theirs])

    # Adam's first steps depend on the sign of a gradient, however small: rounding grows from step to step.
    tolerance = {"sgd": 1e-4, "adam": 1e-3}[optimizer] if policy == "float32" else 0.02
    np.testing.assert_allclose(ours.steps, theirs.steps, rtol=tolerance)
    if policy == "float32":
        np.testing.assert_allclose(ours.steps[0], theirs.steps[0], rtol=1e-4)
    if policy == "float32" and optimizer == "sgd":
        for one, other in zip(network.get_weights(), reference.get_weights()):
            np.testing.assert_allclose(one, other, rtol=0.01, atol=5e-4)


def test_adam_is_as_keras_own():
    random = np.random.default_rng(0)
    ours = optimizers.build(HParams(1, 1, "adamw", learning_rate=0.01, momentum=0.8, weight_decay=0.1), 1)
    theirs = keras.optimizers.AdamW(0.01, beta_1=0.8, weight_decay=0.1)
    start = random.normal(size=(40, 30))
    weights = [keras.Variable(start, dtype="float32", name="kernel") for _ in range(2)]
    for _ in range(5):
        gradient = random.normal(size=(40, 30)) * 10 ** random.uniform(-9, 0, (40, 30))  # some near epsilon
        for optimizer, weight in zip((ours, theirs), weights):
            optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [weight])
    one, other = (ops.convert_to_numpy(weight) - start for weight in weights)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
