"""Keras's own training and distillation. The networks are kapp's, in Keras's own layers."""

import time
from pathlib import Path
from typing import Any

import keras
from tyro.conf import Positional

from benchmarks.workloads import BATCH_SIZE, Precision, main, random_images, serve
from kapp import models
from kapp.recipes import train as train_recipe


def fit(
    network: Positional[str], precision: Precision = "float32", batch_size: int = BATCH_SIZE, steps: int = 20
) -> None:
    """Plain `model.fit`, as in Keras's guides: the images in memory and shuffled by `fit`, no augmentation,
    Adam, cross-entropy from logits."""
    keras.config.set_dtype_policy(precision)
    model = in_keras_layers(models.build(network))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    serve_fit(model, batch_size, steps)


def distill(
    teacher: str = "deep_resnet",
    student: str = "linear_3",
    precision: Precision = "float32",
    batch_size: int = BATCH_SIZE,
    steps: int = 2,
) -> None:
    """`keras.distillation.Distiller` with `LogitsDistillation` by `KLDivergence` at temperature 4, half of
    the loss from the labels as by default, Adam, the images in memory, no augmentation."""
    keras.config.set_dtype_policy(precision)
    distiller = keras.distillation.Distiller(
        teacher=in_keras_layers(models.build(teacher)),
        student=in_keras_layers(models.build(student)),
        # An object: by its name, the default, Keras compares logits as if they were probabilities.
        distillation_losses=keras.distillation.LogitsDistillation(4.0, keras.losses.KLDivergence()),
    )
    distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    serve_fit(distiller, batch_size, steps)


def train(
    network: Positional[str],
    out: Path,
    epochs: int = 30,
    dataset: str = "cifar10",
    batch_size: int = BATCH_SIZE,
) -> None:
    """Training on a data set as Keras's guides write it: layers that flip and move the images and that
    standardize them, Adam at its default rate, float32, `model.fit` on arrays. The images for training and
    validation are those of kapp. `CSVLogger` writes metrics.csv into the folder `out`."""
    images = train_recipe.Config(network, dataset=dataset).data.load(dataset, batch_size)
    normalization = keras.layers.Normalization()
    normalization.adapt(images.train.images)
    channels = images.image_shape[-1]
    # The network's own standardization changes nothing: the layer before it has standardized the images.
    arguments = images.model_arguments | {"mean": [0.0] * channels, "std": [1.0] * channels}
    model = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(0.125, 0.125, fill_mode="constant"),
            normalization,
            in_keras_layers(models.build(network, **arguments)),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    out.mkdir()
    model.fit(
        images.train.images,
        images.train.labels,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=(images.validation.images, images.validation.labels),
        verbose=0,
        callbacks=[keras.callbacks.CSVLogger(out / "metrics.csv")],
    )


def serve_fit(model: keras.Model, batch_size: int, steps: int) -> None:
    images, labels = random_images(steps * batch_size)

    def repeat(count: int) -> float:
        """The seconds of training. On TensorFlow, `fit` then waits for tf.data's autotuning thread, up to as
        long again: once per `fit`, not per epoch, and so not counted."""
        started, end = time.perf_counter(), TrainingEnd()
        model.fit(images[:count], labels[:count], batch_size=batch_size, verbose=0, callbacks=[end])
        return end.time - started

    serve(lambda: repeat(len(images)), len(images), before=lambda: repeat(batch_size))


class TrainingEnd(keras.callbacks.Callback):
    def on_train_end(self, logs: Any = None) -> None:
        self.time = time.perf_counter()


def in_keras_layers(network: keras.Model) -> keras.Model:
    """The network that the saved file of `network` contains."""
    return keras.models.model_from_json(network.to_json())


if __name__ == "__main__":
    main(fit, distill, train)
