"""The table of what kapp must reach on CPUs: ways of ours against ways of others."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import duel, results
from benchmarks.results import Line


@dataclass(frozen=True)
class Row:
    """A duel of all sides of `ours` and `against`; the fastest of each is quoted, all are shown."""

    name: str
    what: str
    ours: tuple[str, ...]  # commands
    whom: str
    against: tuple[str, ...]
    reach: float  # how many times as fast

    @property
    def sides(self) -> int:
        return len(self.ours) + len(self.against)

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]:
        taken = duel.measure([*self.ours, *self.against], turns, say)
        roles = ["ours"] * len(self.ours) + ["against"] * len(self.against)
        return [line for role, its in zip(roles, taken) for line in results.lines(self.name, role, its)]


def on(backend: str, way: str) -> str:
    return f"KERAS_BACKEND={backend} python -m benchmarks.ways.{way}"


def fit(network: str, **steps: int) -> tuple[str, ...]:
    """kapp's training on each of the backends in either precision. A turn should take 2 to 5 seconds."""
    return tuple(
        on(backend, f"kapp_fit {network} --precision {precision} --steps {count}")
        for backend, count in steps.items()
        for precision in ("float32", "mixed_bfloat16")
    )


def torch_loop(network: str, steps: int) -> tuple[str, ...]:
    words = f"python -m benchmarks.ways.torch_loop {network} --steps {steps}"
    return words, f"{words} --compiled"


def stored(backend: str, precision: str, steps: int) -> str:
    # A narrow teacher fills the store in seconds: an epoch whose answers are stored has none in it.
    return on(backend, f"kapp_distill --teacher-width 0.0625 --precision {precision} --steps {steps}")


def labels(backend: str, precision: str, steps: int) -> str:
    return on(backend, f"kapp_distill --teaching labels --precision {precision} --steps {steps}")


def keras_distillation(precision: str) -> tuple[str, ...]:
    return tuple(
        on(backend, f"keras_distillation --precision {precision} --steps 1")
        for backend in ("tensorflow", "torch")
    )


BY_HAND = "hand-written PyTorch, eager or compiled, bfloat16"
KERAS = "keras.distillation.Distiller"
PRECISIONS = ("float32", "mixed_bfloat16")

ROWS = (
    Row(
        "teacher_1",
        "teacher_1 training",
        fit("teacher_1", tensorflow=5, torch=5),
        BY_HAND,
        torch_loop("teacher_1", 5),
        1.25,
    ),
    Row(
        "linear_3",
        "linear_3 training",
        fit("linear_3", tensorflow=40, torch=20, jax=30),
        BY_HAND,
        torch_loop("linear_3", 40),
        1.25,
    ),
    Row(
        "all_cnn_c",
        "all_cnn_c training",
        fit("all_cnn_c", tensorflow=4, torch=4),
        BY_HAND,
        torch_loop("all_cnn_c", 4),
        1.1,
    ),
    Row(
        "plain_fit",
        "teacher_1 training",
        fit("teacher_1", tensorflow=5, torch=5),
        "plain Keras fit on TensorFlow, float32",
        (on("tensorflow", "keras_fit teacher_1 --precision float32 --steps 4"),),
        3.0,
    ),
    Row(
        "distillation_bfloat16",
        "deep_resnet into linear_3, an epoch whose answers are stored, bfloat16",
        (stored("tensorflow", "mixed_bfloat16", 40), stored("torch", "mixed_bfloat16", 20)),
        f"{KERAS}, bfloat16",
        keras_distillation("mixed_bfloat16"),
        8.0,
    ),
    Row(
        "distillation_float32",
        "deep_resnet into linear_3, an epoch whose answers are stored, float32",
        (stored("tensorflow", "float32", 40), stored("torch", "float32", 20)),
        f"{KERAS}, float32",
        keras_distillation("float32"),
        15.0,
    ),
    Row(
        "labels",
        "deep_resnet into linear_3, an epoch whose answers are stored",
        tuple(stored("tensorflow", precision, 40) for precision in PRECISIONS),
        "the same student on labels",
        tuple(labels("tensorflow", precision, 40) for precision in PRECISIONS),
        0.9,
    ),
    Row(
        "filling",
        "deep_resnet's answers to an epoch's views, asked for and stored",
        tuple(on("tensorflow", f"kapp_filling --precision {precision}") for precision in PRECISIONS),
        "its forward passes alone, in bulk",
        tuple(on("tensorflow", f"teacher_forward --precision {precision}") for precision in PRECISIONS),
        0.9,
    ),
)
