"""An epoch of several students of one teacher, one after another, each shown the same views, as runs of one
seed are.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.kapp_students --students 4 --teaching stored

stored: the first student's epoch asks the teacher, in bulk, and the others find its answers. live: the
teacher is asked in every step of every student.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from benchmarks import images
from benchmarks.turns import serve
from kapp import cli, models
from kapp.recipes import distill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--teaching", default="stored", choices=["stored", "live"])
    parser.add_argument("--teacher", default="deep_resnet")
    parser.add_argument("--teacher-width", type=float, default=1.0)
    parser.add_argument("--student", default="linear_3")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "mixed_bfloat16"])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=5, help="in an epoch")
    arguments = parser.parse_args()
    config = distill.Config(student=arguments.student, batch_size=arguments.batch).resolved()
    cli.start_keras()
    from kapp.callbacks import EpochAnswers
    from kapp.data import feeds
    from kapp.training import Distiller, TeacherAnswers, optimizers, precision

    precision.use(arguments.precision)
    steps, batch = arguments.steps, arguments.batch
    dataset = images.dataset(steps * arguments.batch)
    samples, views = dataset.train.samples, config.views
    teacher = models.build(arguments.teacher, width=arguments.teacher_width)
    with tempfile.TemporaryDirectory() as folder:
        answers = TeacherAnswers(teacher, dataset, views, folder=Path(folder))
        stored = arguments.teaching == "stored"
        learners = []
        for seed in range(arguments.students):
            student = models.build(arguments.student, seed=seed)
            taught = (
                {"answers": answers} if stored else {"teachers": teacher, "dataset": dataset, "views": views}
            )
            learners.append(Distiller(student, **taught))
            learners[-1].compile(optimizers.make(config.training, steps_per_epoch=steps))
        number = itertools.count()

        def epoch() -> None:
            now = next(number)  # another in each turn: no answer is there yet
            for learner in learners:
                ready = [EpochAnswers(samples, batch, seed=0, views=views, steps=steps)] if stored else []
                feed = feeds.training(samples, batch, seed=0, views=views, first_step=now * steps)
                when = {"initial_epoch": now, "epochs": now + 1, "steps_per_epoch": steps}
                learner.fit(feed, **when, shuffle=False, verbose=0, callbacks=ready)

        serve(epoch, len(samples) * arguments.students)


if __name__ == "__main__":
    main()
