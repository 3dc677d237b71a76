"""Keras's own distillation, `keras.distillation.Distiller` with `LogitsDistillation` by `KLDivergence` at
temperature 4, half of the loss from the labels as it has it by default, Adam, the images in memory, no
augmentation; deep_resnet teaches linear_3. The networks are kapp's in Keras's own layers.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.keras_distillation --precision float32
"""

import argparse

import keras

from benchmarks import images
from benchmarks.fitting import fit
from benchmarks.turns import serve
from kapp import models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teacher", default="deep_resnet")
    parser.add_argument("--teacher-width", type=float, default=1.0)
    parser.add_argument("--student", default="linear_3")
    parser.add_argument("--precision", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--batch", type=int, default=images.BATCH)
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.precision)
    pictures, labels = images.arrays(arguments.steps * arguments.batch)
    distiller = keras.distillation.Distiller(
        teacher=plain(models.build(arguments.teacher, width=arguments.teacher_width)),
        student=plain(models.build(arguments.student)),
        # By the object: its name, the default, would compare logits as if they were probabilities.
        distillation_losses=keras.distillation.LogitsDistillation(4.0, keras.losses.KLDivergence()),
    )
    distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def turn(images: int) -> float:
        return fit(distiller, pictures[:images], labels[:images], batch_size=arguments.batch, verbose=0)

    serve(lambda: turn(len(pictures)), len(pictures), wake=lambda: turn(arguments.batch))


def plain(network: keras.Model) -> keras.Model:
    """The network that a file of `network` holds."""
    return keras.models.model_from_json(network.to_json())


if __name__ == "__main__":
    main()
