"""What the first epoch of a distillation adds: `TeacherAnswers.of` on views that nobody asked for before,
another epoch's each turn, written to disk.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.kapp_filling --precision float32
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from benchmarks import images
from benchmarks.turns import serve
from kapp import cli, models
from kapp.data import Views, epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teacher", default="deep_resnet")
    parser.add_argument("--teacher-width", type=float, default=1.0)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "mixed_bfloat16"])
    parser.add_argument("--images", type=int, default=500, help="in a turn")
    arguments = parser.parse_args()
    cli.start_keras()
    from kapp.training import TeacherAnswers, precision

    precision.use(arguments.precision)
    dataset, views = images.dataset(arguments.images), Views()
    samples = dataset.train.samples
    teacher = models.build(arguments.teacher, width=arguments.teacher_width)
    with tempfile.TemporaryDirectory() as folder:
        answers = TeacherAnswers(teacher, dataset, views, folder=Path(folder))
        number = itertools.count()

        def fill() -> None:
            order, view = epochs.table(0, next(number), len(samples), views)
            answers.of(samples[order], view)

        serve(fill, len(samples))


if __name__ == "__main__":
    main()
