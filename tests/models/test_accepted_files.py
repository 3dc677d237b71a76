"""distill, transfer, evaluate and export accept the same files of plain Keras, and refuse the same ones."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from kapp.errors import ConfigError, KappError
from kapp.export import predictor
from kapp.export.classifier import build_classifier
from kapp.models import keras_file
from kapp.models.float32 import float32_copy
from kapp.training import TeacherEnsemble
from kapp.training.linear_probe import replace_head

IMAGE_SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *IMAGE_SHAPE)).astype(np.uint8)
REFUSAL = "must be a functional model, or a Sequential one with an Input, that maps images"


def body(activation: str | None = None) -> list[keras.layers.Layer]:
    """The layers of a classifier with 3 classes for images of any size."""
    pooling = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]
    return [*pooling, layers.Dense(3, activation)]


def fitted() -> keras.Model:
    """A Sequential without Input, which Keras builds for the size of the batch."""
    model = keras.Sequential(body("softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(IMAGES.astype("float32"), np.arange(6) % 3, batch_size=3, verbose=0)
    return model


def functional(activation: str | None = None) -> keras.Model:
    x = images = keras.Input(IMAGE_SHAPE)
    for layer in body(activation):
        x = layer(x)
    return keras.Model(images, x)


class Subclass(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = layers.Dense(3)

    def call(self, images):
        return self.dense(images[:, 0, 0])


def subclass() -> keras.Model:
    model = Subclass()
    model(IMAGES.astype("float32"))
    return model


ACCEPTED: dict[str, Callable[[], keras.Model]] = {
    "sequential": lambda: keras.Sequential([keras.Input(IMAGE_SHAPE), *body()]),
    "sequential softmax": lambda: keras.Sequential([keras.Input(IMAGE_SHAPE), *body("softmax")]),
    "sequential Softmax": lambda: keras.Sequential([keras.Input(IMAGE_SHAPE), *body(), layers.Softmax()]),
    "sequential of any size": lambda: keras.Sequential([keras.Input((None, None, 3)), *body()]),
    "sequential without Input": fitted,
    "functional": functional,
    "functional softmax": lambda: functional("softmax"),
}


def save(model: keras.Model, folder: Path) -> Path:
    model.save(folder / "mine.keras")
    return folder / "mine.keras"


def numpy(tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def probabilities(outputs: np.ndarray, name: str) -> np.ndarray:
    if "oftmax" in name or name == "sequential without Input":
        return outputs
    powers = np.exp(outputs)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_recipe_accepts(name, tmp_path):
    model = ACCEPTED[name]()
    expected = probabilities(numpy(model(IMAGES.astype("float32"))), name)
    file = save(model, tmp_path)

    network = keras_file.load(file, IMAGE_SHAPE, ("a", "b", "c"))  # distill
    logits = numpy(TeacherEnsemble(network)(IMAGES.astype("float32")))
    np.testing.assert_allclose(probabilities(logits, "logits"), expected, atol=1e-5)

    new = replace_head(keras_file.load(file, IMAGE_SHAPE, role="source"), 5).network  # transfer
    assert numpy(new(IMAGES.astype("float32"))).shape == (6, 5)

    np.testing.assert_allclose(predictor.load(file).predict(IMAGES, 4), expected, atol=1e-5)  # evaluate

    copy = float32_copy(keras_file.load_keras_file(file))  # export
    classifier = build_classifier(copy, IMAGE_SHAPE)
    assert classifier.input_shape == (None, *IMAGE_SHAPE)
    np.testing.assert_allclose(numpy(classifier(IMAGES)), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize(
    "build",
    [
        lambda: keras.Sequential(body()),  # its input is unknown
        lambda: keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Conv2D(3, 1)]),
        lambda: keras.Sequential([keras.Input((8,)), layers.Dense(3)]),
    ],
)
def test_every_recipe_refuses_in_the_same_words(build, tmp_path):
    file = save(build(), tmp_path)
    for load in (
        lambda: keras_file.load(file, IMAGE_SHAPE),
        lambda: TeacherEnsemble(keras_file.load_keras_file(file)),
        lambda: predictor.load(file),
        lambda: build_classifier(keras_file.load_keras_file(file)),
    ):
        with pytest.raises(ConfigError, match=REFUSAL):
            load()


def test_a_subclass_is_refused(tmp_path):
    model = subclass()
    for use in (TeacherEnsemble, build_classifier):
        with pytest.raises(ConfigError, match=REFUSAL):
            use(model)
    file = save(model, tmp_path)
    for load in (lambda: keras_file.load(file, IMAGE_SHAPE), lambda: predictor.load(file)):
        with pytest.raises(KappError, match=f"cannot load {file}"):  # its code isn't in the file
            load()
