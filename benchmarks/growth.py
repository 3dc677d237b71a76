"""How the cost grows with the size of a batch, width, depth, samples and students."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import duel, results
from benchmarks.results import Line
from benchmarks.rows import on


@dataclass(frozen=True)
class Growth:
    """A cost by a quantity: a command for each point of each curve."""

    name: str
    title: str
    quantity: str
    cost: str  # images/s or s
    curves: Mapping[str, Mapping[float, str]]

    @property
    def sides(self) -> int:
        return sum(map(len, self.curves.values())) // 2  # they start at once, and take shorter turns

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]:
        found: list[Line] = []
        for curve, points in self.curves.items():
            taken = duel.measure(list(points.values()), turns, say, at_once=True)
            for at, its in zip(points, taken):
                found += results.lines(self.name, curve, its, at)
        return found


def fit(words: str, steps: int) -> str:
    return on("tensorflow", f"kapp_fit {words} --precision float32 --steps {steps}")


def students(teaching: str, count: int) -> str:
    words = (
        f"kapp_students --students {count} --teaching {teaching} --teacher-width 0.125 --precision float32"
    )
    return on("tensorflow", words)


GROWTHS = (
    Growth(
        "growth_batch",
        "Training by size of a batch (TensorFlow, float32)",
        "images in a batch",
        "images/s",
        {
            "linear_3": {
                32: fit("linear_3 --batch 32", 40),
                128: fit("linear_3 --batch 128", 20),
                512: fit("linear_3 --batch 512", 5),
                2048: fit("linear_3 --batch 2048", 2),
            },
            "all_cnn_c, a quarter of its width": {
                32: fit("all_cnn_c --width 0.25 --batch 32", 20),
                128: fit("all_cnn_c --width 0.25 --batch 128", 5),
                512: fit("all_cnn_c --width 0.25 --batch 512", 2),
            },
        },
    ),
    Growth(
        "growth_width",
        "Training by width (TensorFlow, float32)",
        "width (1 is the paper's)",
        "images/s",
        {
            "linear_3": {
                0.25: fit("linear_3 --width 0.25", 60),
                0.5: fit("linear_3 --width 0.5", 40),
                1: fit("linear_3 --width 1", 20),
                2: fit("linear_3 --width 2", 6),
            },
            "all_cnn_c": {
                0.125: fit("all_cnn_c --width 0.125", 10),
                0.25: fit("all_cnn_c --width 0.25", 5),
                0.5: fit("all_cnn_c --width 0.5", 2),
                1: fit("all_cnn_c --width 1", 1),
            },
        },
    ),
    Growth(
        "growth_depth",
        "Training by depth (TensorFlow, float32)",
        "hidden layers",
        "images/s",
        {
            "512fc^n-10fc": {n: fit(f"512fc^{n}-10fc", 80 // n) for n in (2, 4, 8, 16)},
            "32c^n-mp-10fc": {n: fit(f"32c^{n}-mp-10fc", 16 // n) for n in (2, 4, 8, 16)},
        },
    ),
    Growth(
        "growth_samples",
        "An epoch of linear_3, a quarter of its width (TensorFlow, float32)",
        "training images",
        "s",
        {
            "an epoch": {
                count: fit(f"linear_3 --width 0.25 --images {count}", 0)
                for count in (1280, 5120, 20480, 40960)
            }
        },
    ),
    Growth(
        "growth_students",
        "An epoch of 500 images of each of several linear_3, of one teacher",
        "students of one teacher",
        "s",
        {
            "answers stored by the first": {count: students("stored", count) for count in (1, 2, 4)},
            "teacher asked live": {count: students("live", count) for count in (1, 2, 4)},
        },
    ),
)
