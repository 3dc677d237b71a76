"""Train a student to answer as its teachers do, and compare it with the same student trained on labels.

    python -m kapp.recipes.distill --teacher deep_resnet --student linear_3

trains the teacher (or finds its finished run), the student on labels, and the student by distillation, and
leaves a run folder with report.md. Paper D, table 4: linear_3 55.12% on labels, 58.37% distilled from
deep_resnet at 91.54%. All of them are trained alike: for a teacher trained in another way, give its run.
--dataset shapes --quick takes under three minutes on two CPU cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kapp import cli, models
from kapp.data import Dataset, sources
from kapp.errors import WrongValue
from kapp.files import checksum
from kapp.papers import deep_and_convolutional as paper_d
from kapp.recipes import train
from kapp.recipes.settings import OpenCount, OpenSize, Settings, above_zero, at_least, filled, published
from kapp.runs import Run, default_folder, is_finished
from kapp.training import pretrained

if TYPE_CHECKING:
    from kapp.training import TeacherAnswers

QUICK = {"epochs": 12, "baseline_epochs": 12, "teacher_epochs": 7, "width": 0.125, "limit_train": 4000}


@dataclass(frozen=True)
class Config(Settings):
    dataset: str = "cifar10"
    """cifar10; cifar100, cifar100:class1, cifar100:class2 or cifar100:CLASS,CLASS,...; shapes, shapes:near,
    shapes:far; tfds:NAME; npz:PATH; folder:PATH[@SIZE]."""
    teacher: tuple[str, ...] = ("deep_resnet",)
    """One or several: names of the catalogue, run folders, .keras files."""
    student: str = "linear_3"
    """A network of the catalogue (python -m kapp.models), or a notation such as 512fc^2-10fc."""
    objective: Literal["prob_mse", "logit_mse", "kl"] = "prob_mse"
    """What the student matches: the teacher's probabilities (paper D), its logits (Urban et al.), or its
    softened probabilities (Hinton et al.)."""
    temperature: float = 4.0
    """Of kl."""
    label_weight: float = 0.0
    """Share of the labels in the loss: 0 (paper D) to 1."""
    ensemble: Literal["logits", "probabilities"] = "logits"
    """What is averaged over several teachers."""
    baseline: bool = True
    """Train the same student on labels as well, to compare."""
    baseline_epochs: OpenCount = None
    """Epochs on labels (default: as long as the paper does)."""
    teacher_epochs: OpenCount = None
    """Epochs of a teacher that has no run yet (default: as long as the paper does)."""
    teacher_width: OpenSize = None
    """Width of a teacher that has no run yet (default: --width)."""
    teacher_seed: int = 0
    """Seed of a teacher that has no run yet: students of all seeds share it."""
    teaching: Literal["stored", "live"] = "stored"
    """stored: compute each of the teachers' answers once, many at a time, and keep them below --data-dir for
    every student, seed and run (143 MB for CIFAR-10): less work from the first epoch on, none where they are
    there. live: ask the teachers in every step, as is done where the answers would take more than 2 GiB."""

    def check(self) -> None:
        self.refuse_several_processes("Train the teacher with it first, and give its run.")
        super().check()
        sources.check(self.dataset)
        if not self.teacher:
            raise WrongValue("--teacher needs at least one name, run folder or .keras file.")
        for teacher in self.teacher:
            pretrained.is_file(teacher, models.names())
        models.find(self.student)
        at_least(self, 1, "baseline_epochs", "teacher_epochs")
        at_least(self, 0, "teacher_seed")
        above_zero(self, "temperature", "teacher_width")
        if not 0 <= self.label_weight <= 1:
            raise WrongValue(f"--label-weight is {self.label_weight}: it must be from 0 to 1.")
        self.resolved().check_together()

    def resolved(self) -> "Config":
        """The same with nothing left open."""
        full = {
            "epochs": paper_d.epochs(self.student, self.teacher[0]),
            "baseline_epochs": paper_d.epochs(self.student),
            "width": 1.0,
        }
        config = replace(self, **filled(self, QUICK if self.quick else {}, full))
        assert config.epochs
        how = published(self, paper_d.TRAINING, config.epochs)
        return replace(config, **filled(config, {"teacher_width": config.width}, how))

    def teacher_training(self, teacher: str) -> train.Config:
        """The config that trains a teacher of the catalogue."""
        return self.on_labels(
            teacher, epochs=self.teacher_epochs, width=self.teacher_width, seed=self.teacher_seed
        )

    def on_labels(self, model: str, **changes) -> train.Config:
        """The config that trains `model` on labels, all else equal."""
        shared = {field.name: getattr(self, field.name) for field in fields(Settings)}
        more = {"dataset": self.dataset, "model": model, "out": None, "overwrite": False}
        return train.Config(**{**shared, **more, **changes})


def experiment(config: Config, dataset: Dataset) -> dict:
    """What the run folder's config.json holds."""
    files = [Path(teacher) for teacher in config.teacher if pretrained.is_file(teacher, models.names())]
    return {
        "recipe": "distill",
        "backend": cli.backend(),
        "data_sha256": dataset.checksum,
        "teachers_sha256": [checksum(pretrained.file(path)) for path in files],
        **cli.as_json(config),
    }


def main(config: Config) -> Run:
    config = config.resolved()
    taught_by = [
        pretrained.name(teacher) if pretrained.is_file(teacher, models.names()) else teacher
        for teacher in config.teacher
    ]
    dataset = config.load(config.dataset)
    files = [Path(teacher) for teacher in config.teacher if pretrained.is_file(teacher, models.names())]
    settings = experiment(config, dataset)
    folder = config.out or default_folder(
        "distill", [*taught_by, config.student, config.dataset], config.seed, settings
    )
    if config.overwrite or not is_finished(folder, settings):
        cli.start_keras()
        # An unfit teacher is refused before anything is written or trained; those that taught before are fit.
        if not (len(files) == len(config.teacher) and answers_of(files, config, dataset).begun):
            for path in files:
                pretrained.load(path, dataset.image_shape, dataset.classes)
    run = Run.start(folder, settings, config.overwrite)

    networks = [find_or_train(teacher, config) for teacher in config.teacher]
    baseline = None
    if config.baseline:
        baseline = train.main(config.on_labels(config.student, epochs=config.baseline_epochs))
    with run.alone():
        if run.finished:
            print(f"{config.student}: distilled already", flush=True)
        else:
            learn(config, run, {**settings, "teachers": taught_by}, dataset, networks)

    taught = [Run(path) for path in networks if path.is_dir()]
    from kapp.reporting import pages, tables

    if not run.report_file.is_file():
        run.write_report(pages.distill_page(run, baseline, taught))
    compared = [*taught, *([baseline] if baseline else []), run]
    print(f"\n{tables.comparison(tables.rows(each.folder for each in compared))}\n")
    print(f"report: {run.report_file}", flush=True)
    return run


def trial(config: Config, folder: Path, epochs: int) -> Run:
    """Train up to epoch `epochs` of the resolved `config`, whose teachers are all trained, and score no test
    image; `main` would finish the run."""
    dataset = config.load(config.dataset)
    settings = experiment(config, dataset)
    run = Run.start(folder, settings)
    taught_by = [pretrained.name(teacher) for teacher in config.teacher]
    with run.alone():
        learn(
            config,
            run,
            {**settings, "teachers": taught_by},
            dataset,
            [Path(teacher) for teacher in config.teacher],
            trial_epochs=epochs,
        )
    return run


def learn(
    config: Config,
    run: Run,
    settings: dict,
    dataset: Dataset,
    taught_by: Sequence[Path],
    trial_epochs: int | None = None,
) -> None:
    """Train the student of the networks in `taught_by`, on from where `run` stands, and score it; or only
    train it up to epoch `trial_epochs`."""
    cli.start_keras()
    from kapp.training import Distiller, device, optimizers, precision
    from kapp.training.fit import finish, fit

    assert config.epochs and config.width  # resolved
    how = config.training
    dtype = precision.use(config.precision)
    config.spread()
    run.write_environment(device.environment(dataset.checksum))

    student = models.build(config.student, width=config.width, seed=config.seed, **dataset.as_input)
    answers = answers_of(taught_by, config, dataset)
    stored = config.teaching == "stored" and answers.storable
    if config.teaching == "stored" and not stored:
        print(f"{answers.size / 2**30:.1f} GiB of answers are too many to store: asking live", flush=True)
    if stored:
        distiller = Distiller(student, answers=answers)
    else:
        networks = [pretrained.load(source, dataset.image_shape, dataset.classes) for source in taught_by]
        distiller = Distiller(student, networks, dataset, config.views, config.ensemble)
    distiller.compile(
        optimizers.make(how, epochs=config.epochs, steps_per_epoch=len(dataset.train) // how.batch_size),
        objective=config.objective,
        temperature=config.temperature,
        label_weight=config.label_weight,
    )

    print(f"{config.student}: {config.epochs} epochs from {' + '.join(settings['teachers'])}", flush=True)
    fit(
        distiller,
        dataset,
        run,
        epochs=trial_epochs or config.epochs,
        batch_size=how.batch_size,
        seed=config.seed,
        validate_every=config.validate_every,
    )
    if trial_epochs is not None:
        return
    facts = {"model": config.student, "precision": dtype, "teaching": "stored" if stored else "live"}
    finish(distiller, dataset, run, {**settings, **facts})


def answers_of(taught_by: Sequence[Path], config: Config, dataset: Dataset) -> "TeacherAnswers":
    """What the networks in `taught_by` answer, kept where the data is."""
    from kapp.training import TeacherAnswers

    folder = sources.home(config.data_dir) / "answers"
    return TeacherAnswers(taught_by, dataset, config.views, config.ensemble, folder)


def find_or_train(teacher: str, config: Config) -> Path:
    """The run folder or .keras file of `teacher`; a name of the catalogue is trained on labels unless its
    run is there."""
    if pretrained.is_file(teacher, models.names()):
        return Path(teacher)
    return train.main(config.teacher_training(teacher)).folder


if __name__ == "__main__":
    cli.run(Config, main)
