"""What tests of training share: tiny networks, images, data sets and run folders."""

from pathlib import Path

import keras
import numpy as np

from kapp import data, models
from kapp.data import Augmentation
from kapp.papers.hparams import HParams
from kapp.run_folder import Run
from kapp.training import Distiller, Learner, TeacherLogits
from kapp.training.linear_probe import LinearProbe, replace_head, set_trainable
from kapp.training.loop import RunDetails
from tests import example_records

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
LABELS = (np.arange(30) % 3).astype(np.int32)


class StepLosses(keras.callbacks.Callback):
    """The loss of each step, computed from the running mean that Keras logs."""

    def on_train_begin(self, logs=None):
        self.steps, self.before = [], 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.steps.append(total - self.before)
        self.before = total


def small_network(**settings) -> keras.Model:
    """A network with dropout for `IMAGES` and `LABELS`."""
    return models.build("6c-mp-d0.5-8fc-3fc", 3, image_shape=(8, 8, 3), **settings)


def to_numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def predict(network: keras.Model, images=IMAGES) -> np.ndarray:
    """Outputs in inference mode, float64."""
    return to_numpy(network(keras.ops.convert_to_tensor(images), training=False)).astype(float)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def state_of(network: keras.Model) -> list[np.ndarray]:
    return [to_numpy(variable).copy() for variable in network.variables]


def equal_arrays(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def hparams(**settings) -> HParams:
    return HParams(**{"epochs": 1, "batch_size": 20, "optimizer": "sgd", "learning_rate": 0.1, **settings})


def new_run(folder: Path) -> Run:
    return Run.create(folder, example_records.CONFIG)


DETAILS = RunDetails(recipe="train", model="linear_3", seed=0)


def random_dataset() -> data.Dataset:
    """80 random images of 32x32 in ten classes: 64 to train on, 8 for validation, 8 to test."""
    random = np.random.default_rng(11)
    images = random.integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    labels = random.integers(0, 10, 80).astype(np.int32)
    samples = np.arange(80, dtype=np.int32)
    parts = [data.Split(images, labels, part) for part in (samples[:64], samples[64:72], samples[72:])]
    return data.Dataset("random", images, labels, tuple("abcdefghij"), *parts)


AUGMENTATION = Augmentation(1)


def _network(notation="6c-mp-d0.3-8fc-3fc", seed=0) -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


def on_labels(dataset, folder) -> Learner:
    return Learner(_network(), dataset, AUGMENTATION)


def from_live_teachers(dataset, folder) -> Learner:
    return Distiller([_network("8fc-3fc", 1), _network("4c-3fc", 2)], _network(), dataset, AUGMENTATION)


def from_cached_logits(dataset, folder) -> Learner:
    return Distiller(TeacherLogits(_network("8fc-3fc", 1), dataset, AUGMENTATION, folder=folder), _network())


def linear_probe(dataset, folder) -> Learner:
    split = replace_head(_network(), 3)
    set_trainable(split.backbone, False)
    return LinearProbe(split, dataset, AUGMENTATION)


# Functions of a data set and a folder, which return a Learner that isn't compiled.
LEARNERS = [on_labels, from_live_teachers, from_cached_logits, linear_probe]
