"""kapp's distillation, as its recipe `distill` sets it up: deep_resnet teaches linear_3, an epoch a turn.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.kapp_distill --teaching stored --precision float32

stored: the teacher's answers to the epoch are stored before the first turn, and each turn begins, as every
epoch does, with looking them up; no teacher is in it, so that one of any width may have filled them. live:
the teacher is asked in every step. labels: the same student without a teacher.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import images
from benchmarks.turns import serve
from kapp import cli, models
from kapp.recipes import distill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teaching", default="stored", choices=["stored", "live", "labels"])
    parser.add_argument("--teacher", default="deep_resnet")
    parser.add_argument("--teacher-width", type=float, default=1.0)
    parser.add_argument("--student", default="linear_3")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "mixed_bfloat16"])
    parser.add_argument("--batch", type=int, default=images.BATCH)
    parser.add_argument("--steps", type=int, default=2, help="in an epoch, which is a turn")
    arguments = parser.parse_args()
    config = distill.Config(student=arguments.student, batch_size=arguments.batch).resolved()
    cli.start_keras()
    from kapp.callbacks import EpochAnswers
    from kapp.data import epochs, feeds
    from kapp.training import Distiller, Learner, TeacherAnswers, optimizers, precision

    precision.use(arguments.precision)
    dataset = images.dataset(arguments.steps * arguments.batch)
    samples, views = dataset.train.samples, config.views
    student = models.build(arguments.student)
    learner: Learner
    with tempfile.TemporaryDirectory() as folder:
        if arguments.teaching == "labels":
            learner = Learner(student, dataset, views)
        else:
            teacher = models.build(arguments.teacher, width=arguments.teacher_width)
            if arguments.teaching == "live":
                learner = Distiller(student, teacher, dataset, views)
            else:
                answers = TeacherAnswers(teacher, dataset, views, folder=Path(folder))
                order, view = epochs.table(0, 0, len(samples), views)
                answers.of(samples[order], view)
                learner = Distiller(student, answers=answers)
        stored = arguments.teaching == "stored"
        learner.compile(optimizers.make(config.training, steps_per_epoch=arguments.steps))
        steps, batch = arguments.steps, arguments.batch

        def epoch(steps: int) -> None:
            ready = [EpochAnswers(samples, batch, seed=0, views=views, steps=steps)] if stored else []
            feed = feeds.training(samples, batch, seed=0, views=views)
            learner.fit(feed, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=ready)

        serve(lambda: epoch(steps), len(samples), wake=lambda: epoch(1))


if __name__ == "__main__":
    main()
