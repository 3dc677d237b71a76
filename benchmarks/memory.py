"""The most memory that distilling holds, beside what it must hold."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import images
from benchmarks.commands import timed
from benchmarks.results import Line

TRAIN, TEST = 50_000, 10_000  # CIFAR-10's
STUDENT, TEACHER = "linear_3", "deep_resnet"
NARROW = 0.0625  # of the teacher that answers to all: a whole one would take half an hour on two cores
STEPS = 8
FEW = 1024  # training images that a whole one answers to
IMPORTS = """
from benchmarks.turns import peak_bytes
from kapp import cli
cli.start_keras()
import kapp.training.fit
print(peak_bytes())
"""
SAVE = """
import sys
from kapp import cli, models
cli.start_keras()
models.build(sys.argv[1], width=float(sys.argv[2])).save(sys.argv[3])
"""
COUNT = """
import math, sys
from kapp import cli, models
cli.start_keras()
network = models.build(sys.argv[1])
print(network.count_params(), sum(math.prod(weight.shape) for weight in network.trainable_weights))
"""


class Memory:
    """Of `distill` on as many images as CIFAR-10 has, until its eighth step has ended."""

    name = "memory"
    sides = 3

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            pictures, labels = images.arrays(TRAIN + TEST)
            np.savez(
                folder / "random.npz",
                x_train=pictures[:TRAIN],
                y_train=labels[:TRAIN],
                x_test=pictures[TRAIN:],
                y_test=labels[TRAIN:],
            )
            measured = [self._imports(), *self._distilling(folder, say)]
        return [*measured, *self._held()]

    def _imports(self) -> Line:
        _, said = timed(f"python -c '{IMPORTS}'")
        return self._line("imports", "Keras started, kapp imported", int(said))

    def _distilling(self, folder: Path, say: Callable[[str], object]) -> list[Line]:
        found = []
        for width, more in ((NARROW, ""), (1.0, f" --limit-train {FEW}")):
            teacher = folder / f"teacher-{width}.keras"
            timed(f"python -c '{SAVE}' {TEACHER} {width} {teacher}")
            words = f"--student {STUDENT} --batch-size {images.BATCH} --no-baseline{more}"
            command = f"python -m benchmarks.ways.start --step {STEPS} distill {words}"
            given = f"--dataset npz:{folder}/random.npz --teacher {teacher} --out {folder}/run-{width}"
            turn, said = timed(f"KAPP_DATA_DIR={folder} {command} {given}")
            peak = json.loads(said.splitlines()[-1])["peak_bytes"]
            say(f"{peak / 2**30:.2f} GiB after {turn.seconds:.0f} s")
            found.append(self._line("peak", f"{command} --teacher {TEACHER} at {width:g} of its width", peak))
        return found

    def _held(self) -> list[Line]:
        _, said = timed(f"python -c '{COUNT}' {STUDENT}")
        weights, trained = map(int, said.split())
        count, classes = TRAIN + TEST, len(images.CLASSES)
        parts = {
            f"{count:,} images and labels": count * (32 * 32 * 3 + 4),
            "the answers of an epoch and of validation": count * classes * 2,
            f"{STUDENT}'s {weights:,} weights": weights * 4,
            "Adam's two moments of those that are trained": trained * 2 * 4,
        }
        return [self._line("must", what, size) for what, size in parts.items()]

    def _line(self, role: str, what: str, size: int) -> Line:
        return Line(self.name, role, what, "", 0, 0.0, 0.0, 0, size)
