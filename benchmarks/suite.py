"""The benchmarks, by name, in the order of the page."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.compare import Report, compare, follow, run
from benchmarks.results import Contender, Costs, Repetition
from benchmarks.workloads import BATCH_SIZE, CLASSES, random_images

WORKLOADS = "python -m benchmarks.workloads."
PREPARED = Path(os.environ.get("KAPP_DATA_DIR", "")).resolve() / "cifar10"


@dataclass(frozen=True)
class Comparison:
    """Contenders of kapp and of its peers; the page quotes the fastest of each group."""

    name: str
    title: str
    contenders: Sequence[Contender]
    targets: Mapping[str, float]  # by peer: how many times as fast kapp should be

    def measure(self, repetitions: int, report: Report) -> Iterator[Costs]:
        yield compare(self.contenders, repetitions, report)


@dataclass(frozen=True)
class Scaling:
    """A cost by a quantity; each group of contenders is a curve."""

    name: str
    title: str
    quantity: str
    unit: str  # of the cost: images/s, or s per repetition
    contenders: Sequence[Contender]

    def measure(self, repetitions: int, report: Report) -> Iterator[Costs]:
        for _, curve in groupby(self.contenders, lambda contender: contender.group):
            yield compare(list(curve), repetitions, report, start_together=True)


@dataclass(frozen=True)
class Commands:
    """Commands that end on their own. They run one after another with one data cache. It is empty at first,
    except for CIFAR-10 if KAPP_DATA_DIR has it prepared."""

    name: str
    title: str
    contenders: Sequence[Contender]
    target: float  # seconds of the last command
    target_fraction: float | None = None  # of the first command's seconds
    status: int = 0

    def measure(self, repetitions: int, report: Report) -> Iterator[Costs]:
        costs: Costs = {contender: [] for contender in self.contenders}
        for _ in range(repetitions + 1):
            with tempfile.TemporaryDirectory() as folder:
                if PREPARED.is_dir():
                    (Path(folder) / "cifar10").symlink_to(PREPARED)
                for contender, measured in costs.items():
                    measured.append(run(f"KAPP_DATA_DIR={folder} {contender.command}", self.status)[0])
                    report(f"{measured[-1].seconds:.1f} s: {contender.command}")
        yield costs


@dataclass(frozen=True)
class TimeToAccuracy:
    """Trainings of a network, each once, and the minutes until the validation images have an accuracy. Their
    commands take `--out FOLDER` and write its metrics.csv, which has a row per epoch."""

    name: str
    title: str
    contenders: Sequence[Contender]
    targets: Sequence[float]

    def measure(self, repetitions: int, report: Report) -> Iterator[Costs]:
        for contender in self.contenders:
            best = 0.0
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                for seconds, row in follow(f"{contender.command} --out {out}", out / "metrics.csv"):
                    accuracy = float(row["val_accuracy"])
                    report(f"{accuracy:.1%} after {seconds / 60:.1f} minutes: {contender.command}")
                    if accuracy > best:
                        best = accuracy
                        yield {contender._replace(x=f"{best:.4f}"): [Repetition(seconds)]}


@dataclass(frozen=True)
class Memory:
    """Peak memory of `distill` on as many images as CIFAR-10 has, until its eighth step has ended, and the
    minimum. A narrow teacher computes the logits of all training images. One of full width, which would
    take half an hour on two cores, computes those of a few."""

    name: str = "memory"
    train_images: int = 50_000
    test_images: int = 10_000
    few_images: int = 1024
    student: str = "linear_3"
    teacher: str = "deep_resnet"

    def measure(self, repetitions: int, report: Report) -> Iterator[Costs]:
        peak = "import kapp.training.loop, benchmarks.workloads; print(benchmarks.workloads.peak_bytes())"
        sizes = {("imports", "Keras started, kapp imported"): int(run_python(peak))}
        images, labels = random_images(self.train_images + self.test_images)
        x, y = (np.split(each, [self.train_images]) for each in (images, labels))
        with tempfile.TemporaryDirectory() as folder:
            np.savez(f"{folder}/random.npz", x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])
            for width, flags in ((0.0625, ""), (1.0, f" --train-images {self.few_images}")):
                teacher = f"{folder}/teacher-{width}.keras"
                run_python(f'models.build("{self.teacher}", width={width}).save("{teacher}")')
                command = f"{WORKLOADS}start 8 distill --student {self.student} --batch-size {BATCH_SIZE}"
                command += f" --no-baseline{flags} --teacher"
                files = f"{teacher} --dataset npz:{folder}/random.npz"
                cost, output = run(f"KAPP_DATA_DIR={folder} {command} {files}")
                size = json.loads(output.splitlines()[-1])["peak_bytes"]
                report(f"{size / 2**30:.2f} GiB after {cost.seconds:.0f} s")
                sizes["peak", f"{command} {self.teacher} at {width:g} of its width"] = size
        network = f'network = models.build("{self.student}"); '
        count = "print(network.count_params(), sum(math.prod(w.shape) for w in network.trainable_weights))"
        weights, trainable = map(int, run_python(f"import math; {network}{count}").split())
        sizes |= {
            ("required", f"{len(images):,} images and labels"): images.nbytes + labels.nbytes,
            ("required", "teacher logits of an epoch and of validation"): len(images) * len(CLASSES) * 2,
            ("required", f"{self.student}'s {weights:,} weights"): weights * 4,
            ("required", "Adam's two moments of the trainable weights"): trainable * 2 * 4,
        }
        yield {Contender(*what): [Repetition(0.0, peak_bytes=size)] for what, size in sizes.items()}


def run_python(statements: str) -> str:
    """The output of a process with Keras and kapp's models."""
    return run(f"python -c 'from kapp import cli, models; cli.start_keras(); {statements}'")[1]


def on(backend: str, workload: str) -> str:
    return f"KERAS_BACKEND={backend} {WORKLOADS}{workload}"


def training(
    network: str, steps: int, target: float, jax: bool = False, peers: Sequence[Contender] = ()
) -> Comparison:
    """The training of `network`. A repetition should take 2 to 5 seconds."""
    # Those that were the fastest of all six at one time or another, and the default's float32.
    kapp = [("tensorflow", "float32"), ("tensorflow", "mixed_bfloat16"), ("torch", "mixed_bfloat16")]
    kapp += [("jax", "float32")] if jax else []
    loop = f"{WORKLOADS}torch fit {network} --steps {steps}"
    contenders = [
        Contender("kapp", on(backend, f"kapp fit {network} --precision {precision} --steps {steps}"))
        for backend, precision in kapp
    ]
    contenders += [Contender(LOOP, loop), Contender(LOOP, f"{loop} --compiled"), *peers]
    return Comparison(
        network, f"{network} training", contenders, {LOOP: target} | ({PLAIN_FIT: 3.0} if peers else {})
    )


def distillation(precision: str, target: float, torch_steps: int) -> Comparison:
    workloads = {
        # A narrow teacher fills the cache in seconds, and doesn't run in an epoch whose logits are cached.
        "kapp": ("kapp distill --teacher-width 0.0625", {"tensorflow": 40, "torch": torch_steps}),
        DISTILLER: ("keras distill", {"tensorflow": 3, "torch": 2}),
        LABELS: ("kapp distill --teacher-logits none", {"tensorflow": 40, "torch": torch_steps}),
    }
    contenders = [
        Contender(group, on(backend, f"{workload} --precision {precision} --steps {count}"))
        for group, (workload, steps) in workloads.items()
        for backend, count in steps.items()
    ]
    bits = precision.removeprefix("mixed_")
    title = f"deep_resnet into linear_3, an epoch whose logits are cached, {bits}"
    return Comparison(f"distillation_{bits}", title, contenders, {DISTILLER: target, LABELS: 0.9})


def curve(group: str, workload: str, steps: Mapping[float, int]) -> list[Contender]:
    """A contender for each x in `steps`; in `workload`, "{x}" stands for it."""
    workload = f"kapp {workload} --precision float32 --steps"
    return [
        Contender(group, on("tensorflow", f"{workload.format(x=x)} {count}"), str(x))
        for x, count in steps.items()
    ]


LOOP, PLAIN_FIT = "hand-written PyTorch, bfloat16", "plain Keras fit, float32"
FORWARD = "forward passes alone"
DISTILLER, LABELS = "keras.distillation.Distiller", "student on labels"
PREDICT = [on("tensorflow", f"kapp predict --precision {each}") for each in ("float32", "mixed_bfloat16")]
COMPARISONS = (
    training(
        "teacher_1",
        8,
        1.25,
        peers=[Contender(PLAIN_FIT, on("tensorflow", "keras fit teacher_1 --precision float32 --steps 4"))],
    ),
    training("linear_3", 80, 1.25, jax=True),
    training("all_cnn_c", 8, 1.1),
    distillation("mixed_bfloat16", 8.0, torch_steps=10),
    distillation("float32", 15.0, torch_steps=20),
    Comparison(
        "teacher_logits",
        "deep_resnet's logits of an epoch's views, computed and cached",
        [Contender("kapp", f"{each} --cache") for each in PREDICT]
        + [Contender(FORWARD, each) for each in PREDICT],
        {FORWARD: 0.9},
    ),
)
TRAIN = f"{WORKLOADS}start 1 train --dataset {'cifar10' if PREPARED.is_dir() else 'shapes'}"
COMMANDS = (
    Commands("help", "`distill --help`", [Contender("kapp", "python -m kapp.recipes.distill --help")], 0.5),
    Commands(
        "wrong_flag",
        "a wrong flag",
        [Contender("kapp", "python -m kapp.recipes.distill --techer deep_resnet")],
        0.5,
        status=2,
    ),
    Commands(
        "startup",
        "train until its first step has ended, the data cached",
        [Contender("first", TRAIN), Contender("second", TRAIN)],
        10.0,
        target_fraction=0.75,
    ),
)
STUDENTS = "distill --students {x} --new-epochs --teacher-width 0.125 --batch-size 100 --teacher-logits"
SCALINGS = (
    Scaling(
        "scaling_batch",
        "Training by batch size (TensorFlow, float32)",
        "images per batch",
        "images/s",
        curve("linear_3", "fit linear_3 --batch-size {x}", {32: 40, 128: 20, 512: 5, 2048: 2})
        + curve(
            "all_cnn_c, width 0.25", "fit all_cnn_c --width 0.25 --batch-size {x}", {32: 20, 128: 5, 512: 2}
        ),
    ),
    Scaling(
        "scaling_width",
        "Training by width (TensorFlow, float32)",
        "width (1 is the paper's)",
        "images/s",
        curve("linear_3", "fit linear_3 --width {x}", {0.25: 60, 0.5: 40, 1: 20, 2: 6})
        + curve("all_cnn_c", "fit all_cnn_c --width {x}", {0.125: 10, 0.25: 5, 0.5: 2, 1: 1}),
    ),
    Scaling(
        "scaling_depth",
        "Training by depth (TensorFlow, float32)",
        "hidden layers",
        "images/s",
        curve("512fc^n-10fc", "fit 512fc^{x}-10fc", {2: 40, 4: 20, 8: 10, 16: 5})
        + curve("32c^n-mp-10fc", "fit 32c^{x}-mp-10fc", {2: 8, 4: 4, 8: 2, 16: 1}),
    ),
    Scaling(
        "scaling_images",
        "An epoch of linear_3, a quarter of its width (TensorFlow, float32)",
        "training images",
        "s",
        curve("an epoch", "fit linear_3 --width 0.25 --images {x}", {1280: 0, 5120: 0, 20480: 0, 40960: 0}),
    ),
    Scaling(
        "scaling_students",
        "An epoch of 500 images for each of several linear_3 with one teacher",
        "students of one teacher",
        "s",
        curve("logits cached by the first student", f"{STUDENTS} cached", {1: 5, 2: 5, 4: 5})
        + curve("teacher runs in each step", f"{STUDENTS} live", {1: 5, 2: 5, 4: 5}),
    ),
)
PLAIN_TRAINING = "plain Keras"


def time_to_accuracy(
    title: str, network: str, epochs: int, recipes: Sequence[str], targets: Sequence[float]
) -> TimeToAccuracy:
    """Trainings on CIFAR-10: `network` by Keras for `epochs`, and the recipe `train` with the flags of each
    of `recipes`."""
    train = "KERAS_BACKEND=tensorflow python -m kapp.recipes.train --dataset cifar10"
    keras = on("tensorflow", f"keras train {network} --epochs {epochs}")
    contenders = [Contender("kapp", f"{train} {flags}") for flags in recipes]
    contenders += [Contender(PLAIN_TRAINING, keras)]
    return TimeToAccuracy(f"time_to_accuracy_{title}", title, contenders, targets)


SHORT_SCHEDULE = "--batch-size 128 --schedule cosine --warmup-epochs 1"
TIMES_TO_ACCURACY = (
    time_to_accuracy(
        "linear_3",
        "linear_3",
        40,
        [f"--model linear_3 {SHORT_SCHEDULE} --epochs {epochs}" for epochs in (25, 100)],
        (0.60, 0.65),
    ),
    time_to_accuracy("teacher", "teacher_1", 30, ["--model airbench --epochs 16"], (0.85, 0.90, 0.93)),
)
Benchmark = Comparison | Commands | TimeToAccuracy | Memory | Scaling
SHORT: tuple[Benchmark, ...] = (*COMPARISONS, *COMMANDS, Memory(), *SCALINGS)
ALL = (*SHORT, *TIMES_TO_ACCURACY)
BY_NAME = {benchmark.name: benchmark for benchmark in ALL}
