"""kapp's training, distillation and teacher logits."""

import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from benchmarks.workloads import BATCH_SIZE, CLASSES, Precision, main, random_images, serve
from kapp import cli, data, models
from kapp.data import Augmentation, sampling
from kapp.recipes import distill as distill_recipe
from kapp.recipes import train as train_recipe
from kapp.recipes.settings import HParamFlags, NetworkFlags


def fit(
    network: Positional[str],
    precision: Precision = "float32",
    batch_size: int = BATCH_SIZE,
    width: float = 1.0,
    images: int = 10_000,
    steps: int = 20,
) -> None:
    """Training on labels, as the recipe `train` does it: the optimizer and the augmentation of the network's
    paper, batches of indices into images in memory. With 0 steps, a repetition is an epoch of all images."""
    hparam_flags, network_flags = HParamFlags(batch_size=batch_size), NetworkFlags(width=width)
    settings = train_recipe.Config(network, hparams=hparam_flags, network=network_flags).resolved()
    start_keras(precision)
    from kapp.data import pipelines
    from kapp.training import Learner, optimizers

    dataset = random_dataset(images)
    epoch = images // batch_size
    learner = Learner(settings.network.build(network, dataset, seed=0), dataset, settings.augmentation)
    learner.compile(optimizers.build(settings.hparams, epoch))
    batches = pipelines.train_batches(
        dataset.train.samples, batch_size, seed=0, augmentation=settings.augmentation
    )

    def repeat(steps: int) -> None:
        learner.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    serve(lambda: repeat(steps or epoch), (steps or epoch) * batch_size, before=lambda: repeat(1))


def distill(
    teacher: str = "deep_resnet",
    teacher_width: float = 1.0,
    teacher_logits: Literal["cached", "live", "none"] = "cached",
    student: str = "linear_3",
    students: int = 1,
    new_epochs: bool = False,
    precision: Precision = "float32",
    batch_size: int = BATCH_SIZE,
    steps: int = 2,
) -> None:
    """Distillation, as the recipe `distill` does it: an epoch of each student per repetition. cached: an
    epoch begins by loading the teacher's logits, which were cached before; the teacher's width makes no
    difference. live: the teacher runs in each step. none: the same student on labels. new_epochs: each
    repetition is another epoch, whose logits the first student computes and caches."""
    settings = distill_recipe.Config(student=student, hparams=HParamFlags(batch_size=batch_size)).resolved()
    start_keras(precision)
    from kapp.data import pipelines
    from kapp.training import Distiller, Learner, TeacherLogits, optimizers

    dataset, augmentation = random_dataset(steps * batch_size), settings.augmentation
    plan: dict[str, Any] = {"samples": dataset.train.samples, "batch_size": batch_size, "seed": 0}
    learners, epochs = [], count()
    with tempfile.TemporaryDirectory() as folder:
        if teacher_logits != "none":
            network = models.build(teacher, width=teacher_width)
        if teacher_logits == "cached":
            network = TeacherLogits(network, dataset, augmentation, folder=Path(folder))
            if not new_epochs:
                cache_epoch(network, 0)
        for seed in range(students):
            model = models.build(student, seed=seed)
            if teacher_logits == "none":
                learners.append(Learner(model, dataset, augmentation))
            else:
                learners.append(Distiller(network, model, dataset, augmentation))
            learners[-1].compile(optimizers.build(settings.hparams, steps))

        def repeat(steps: int) -> None:
            epoch = next(epochs) if new_epochs else 0
            for learner in learners:
                learner.fit(
                    pipelines.train_batches(**plan, augmentation=augmentation, first_step=epoch * steps),
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    steps_per_epoch=steps,
                    shuffle=False,
                    verbose=0,
                    callbacks=learner.fit_callbacks(**plan, steps=steps),
                )

        before = (lambda: None) if new_epochs else (lambda: repeat(1))
        serve(lambda: repeat(steps), len(dataset.train) * students, before)


def predict(
    teacher: str = "deep_resnet", cache: bool = False, precision: Precision = "float32", images: int = 500
) -> None:
    """The teacher's logits. cache: of another epoch's views per repetition, computed and cached by
    `TeacherLogits`, as in a distillation's first epoch. Otherwise forward passes alone: `predict_on_batch` of
    all images at once; on TensorFlow without XLA, which makes convolutions slower on CPUs."""
    start_keras(precision)
    import keras

    from kapp.training import TeacherLogits

    dataset, network, epochs = random_dataset(images), models.build(teacher), count()
    if cache:
        with tempfile.TemporaryDirectory() as folder:
            logits = TeacherLogits(network, dataset, Augmentation(), folder=Path(folder))
            serve(lambda: cache_epoch(logits, next(epochs)), images)
    else:
        network.compile(jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
        serve(lambda: network.predict_on_batch(dataset.images), images)


def start_keras(precision: Precision) -> None:
    cli.start_keras()
    from kapp.training import mixed_precision

    mixed_precision.set_policy(precision)


def random_dataset(images: int) -> data.Dataset:
    """A data set of random images, all of them for training."""
    arrays, samples = random_images(images), np.arange(images, dtype=np.int32)
    splits = (data.Split(*arrays, part) for part in (samples, samples[:0], samples[:0]))
    return data.Dataset("random", *arrays, CLASSES, *splits)


def cache_epoch(logits: Any, epoch: int) -> None:
    samples = logits.dataset.train.samples
    order, view = sampling.epoch_plan(0, epoch, len(samples), logits.augmentation)
    logits.get(samples[order], view)


if __name__ == "__main__":
    main(fit, distill, predict)
