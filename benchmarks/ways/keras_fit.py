"""A network in Keras's own layers through plain `model.fit`, as Keras's guides train: the images in memory
and shuffled by `fit`, no augmentation, Adam and cross-entropy from logits.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.keras_fit teacher_1 --precision float32
"""

import argparse
from typing import Any

import keras
from keras import layers

from benchmarks import images
from benchmarks.fitting import fit
from benchmarks.turns import serve

MEAN, VARIANCE = [125.3, 123.0, 113.9], [2663.0, 2581.0, 2632.0]  # CIFAR-10's


def normalised(layer: Any) -> list[Any]:
    return [layer, layers.BatchNormalization(), layers.ReLU()]


def teacher_1() -> list[Any]:
    steps: list[Any] = []
    for filters, convolutions, dropout in ((76, 2, 0.2), (126, 2, 0.3), (148, 4, 0.37)):
        for _ in range(convolutions):
            steps += normalised(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        steps += [layers.MaxPooling2D(), layers.Dropout(dropout)]
    steps += [layers.Flatten(), *connected(1200), *connected(1200), layers.Dropout(0.42)]
    return [*steps, layers.Dense(10, dtype="float32")]


def linear_3() -> list[Any]:
    return [layers.Flatten(), *connected(2048), *connected(2048), layers.Dense(10, dtype="float32")]


def connected(units: int) -> list[Any]:
    return normalised(layers.Dense(units, use_bias=False))


NETWORKS = {"teacher_1": teacher_1, "linear_3": linear_3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--precision", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--batch", type=int, default=images.BATCH)
    parser.add_argument("--steps", type=int, default=20, help="in a turn")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.precision)
    pictures, labels = images.arrays(arguments.steps * arguments.batch)
    normalise = layers.Normalization(mean=MEAN, variance=VARIANCE)
    network = keras.Sequential([keras.Input((32, 32, 3)), normalise, *NETWORKS[arguments.network]()])
    network.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )

    def turn(images: int) -> float:
        return fit(network, pictures[:images], labels[:images], batch_size=arguments.batch, verbose=0)

    serve(lambda: turn(len(pictures)), len(pictures), wake=lambda: turn(arguments.batch))


if __name__ == "__main__":
    main()
