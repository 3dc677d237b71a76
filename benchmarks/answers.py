"""What stored answers cost: an epoch on labels, with stored answers and with the live teacher; and filling
the store against the teacher's forward passes alone.

    KERAS_BACKEND=tensorflow python benchmarks/answers.py --precision float32

deep_resnet at a quarter of its width teaches linear_3 on random images of CIFAR-10's shape, batch 128. The
ways take turns, and what is printed is the median of each and of their ratios turn by turn, by the clock and
by the processor time of all threads: on a busy machine only the ratios say anything.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from kapp import data, models
from kapp.callbacks import EpochAnswers
from kapp.data import Views, epochs, feeds
from kapp.training import Distiller, Learner, TeacherAnswers, precision

BATCH, BULK, VIEWS = 128, 500, Views()


def random_dataset(count: int) -> data.Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    labels = random.integers(0, 10, count).astype(np.int32)
    samples = np.arange(count, dtype=np.int32)
    parts = (data.Split(images, labels, part) for part in (samples, samples[:0], samples[:0]))
    return data.Dataset("random", images, labels, tuple("abcdefghij"), *parts)


class Taken(NamedTuple):
    """Seconds."""

    clock: float
    processor: float


def timed(work: Callable[[], Any]) -> Taken:
    started = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - started[0], time.process_time() - started[1])


def an_epoch(learner: Learner, dataset: data.Dataset, epoch: int) -> Taken:
    steps = len(dataset.train) // BATCH
    shown = {"seed": 0, "views": VIEWS}
    feed = feeds.training(dataset.train.samples, BATCH, **shown, first_step=epoch * steps)
    ready = []
    if getattr(learner, "answers", None) is not None:
        ready = [EpochAnswers(dataset.train.samples, BATCH, **shown, steps=steps)]
    how = {"steps_per_epoch": steps, "initial_epoch": epoch, "epochs": epoch + 1, "shuffle": False}
    return timed(lambda: learner.fit(feed, **how, verbose=0, callbacks=ready))


def training(teacher: keras.Model, dataset: data.Dataset, turns: int, folder: Path) -> None:
    answers = TeacherAnswers([teacher], dataset, VIEWS, folder=folder)
    students = [models.build("linear_3") for _ in range(3)]
    ways = {
        "labels": Learner(students[0], dataset, VIEWS),
        "stored": Distiller(students[1], answers=answers),
        "live": Distiller(students[2], teacher, dataset, VIEWS),
    }
    for learner in ways.values():
        learner.compile("adam")
    for epoch in range(turns + 1):
        answers.of(*shown(dataset, epoch))
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for epoch in range(turns + 1):
        for name, way in ways.items():
            taken[name].append(an_epoch(way, dataset, epoch))
    images = len(dataset.train) // BATCH * BATCH
    print_rates(taken, images)
    print_ratio("stored / labels", taken["labels"], taken["stored"])
    print_ratio("stored / live", taken["live"], taken["stored"])


def filling(teacher: keras.Model, dataset: data.Dataset, turns: int, folder: Path) -> None:
    answers = TeacherAnswers([teacher], dataset, VIEWS, folder=folder)
    teacher.compile(jit_compile=keras.backend.backend() == "jax")  # without XLA: convolutions, on CPUs
    taken: dict[str, list[Taken]] = {"forward alone": [], "filling": []}
    for epoch in range(100, 101 + turns):
        asked = shown(dataset, epoch)
        taken["forward alone"].append(
            timed(lambda: teacher.predict(dataset.images, batch_size=BULK, verbose=0))
        )
        taken["filling"].append(timed(lambda asked=asked: answers.of(*asked)))
    print_rates(taken, len(dataset.train))
    print_ratio("filling / forward alone", taken["forward alone"], taken["filling"])


def shown(dataset: data.Dataset, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    order, view = epochs.table(0, epoch, len(dataset.train), VIEWS)
    return dataset.train.samples[order], view


def print_rates(taken: dict[str, list[Taken]], images: int) -> None:
    for name, turns in taken.items():
        later = [turn.clock for turn in turns[1:]]  # the first compiles
        print(f"  {name:24} {images / median(later):8,.0f} images/s, median of {len(later)}")


def print_ratio(name: str, before: list[Taken], after: list[Taken]) -> None:
    pairs = list(zip(before, after))[1:]
    clock, processor = ([b[i] / a[i] for b, a in pairs] for i in range(2))
    print(
        f"  {name:24} {median(clock):8.2f} of the speed by the clock ({min(clock):.2f} to {max(clock):.2f}), "
        f"{median(processor):.2f} by processor time ({min(processor):.2f} to {max(processor):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--precision", default="float32", choices=["float32", "mixed_bfloat16"])
    arguments = parser.parse_args()
    precision.use(arguments.precision)
    dataset = random_dataset(arguments.images)
    teacher = models.build("deep_resnet", width=0.25)
    print(f"{keras.backend.backend()}, {arguments.precision}, {arguments.images} images", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        training(teacher, dataset, arguments.turns, Path(folder))
        filling(teacher, dataset, arguments.turns, Path(folder))
    if hasattr(os, "getloadavg"):
        print(f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
