"""Train a student on its teachers' logits, and compare it with the same student trained on labels.

    python -m kapp.recipes.distill --teacher deep_resnet --student linear_3

trains the teacher (or finds its finished run), the student on labels, and the student by distillation, and
leaves a run folder with report.md. Ratusznik et al., table 4: linear_3 has 55.12% on labels and 58.37%
distilled from deep_resnet, which has 91.54%, all on 40,000 images. All networks are trained alike. For a
teacher that is trained in another way, give its run folder. With --dataset shapes --scale small it takes
minutes on two CPU cores; `make demo` is such a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from kapp import cli, data, fileio, models
from kapp.errors import ConfigError
from kapp.fileio import checksum
from kapp.models import keras_file
from kapp.papers import ratusznik, scales
from kapp.papers.distillation import TEMPERATURES, check_labels, check_standardized, distill_weight
from kapp.papers.hparams import HParams
from kapp.papers.scales import Scale
from kapp.recipes import train
from kapp.recipes.settings import (
    AugmentationFlags,
    ComputeOptions,
    DataOptions,
    HParamFlags,
    NetworkOptions,
    OptionalFloat,
    OptionalInt,
    OptionalInts,
    OutputOptions,
    ScaleName,
    check_hparams,
    check_min,
    check_positive,
    check_training,
    default_epochs,
    for_epochs,
    with_defaults,
)
from kapp.records import RunConfig
from kapp.run_folder import Run, default_folder, is_finished

if TYPE_CHECKING:
    from kapp.data import Augmentation, Dataset
    from kapp.data.validation_overlap import Overlap

UnlabeledName = Annotated[str | None, tyro.conf.arg(metavar="npz:PATH|folder:PATH", help_behavior_hint="")]
LossName = Literal["prob_mse", "logit_mse", "kl", "dkd", "nkd", "dist"]


@dataclass(frozen=True)
class DistillationFlags:
    """What the student learns from."""

    distillation_loss: LossName = "prob_mse"
    """The student matches the teacher's probabilities (prob_mse; Ratusznik et al.), its logits (logit_mse;
    Urban et al. 2016), or its probabilities at --temperature: all of them (kl; Hinton et al. 2015), the
    label's and the others apart (dkd; Zhao et al. 2022. nkd; Yang et al. 2023), or their correlations over
    classes and batch (dist; Huang et al. 2022)."""
    temperature: OptionalFloat = None
    """Of kl, dkd, nkd and dist (default: 4 for kl and dkd, 1 for nkd and dist)."""
    standardize_logits: bool = False
    """Give the logits of each image mean 0 and standard deviation 1 before the distillation loss (Sun et al.
    2024)."""
    label_weight: float = 0.0
    """Weight of the labels' cross-entropy in the loss (Ratusznik et al.: 0)."""
    distill_weight: OptionalFloat = None
    """Weight of the distillation loss (default: 1 minus --label-weight)."""
    ensemble: Literal["logits", "probabilities"] = "logits"
    """What is averaged over several teachers."""
    teacher_logits: Literal["cached", "live"] = "cached"
    """cached: compute each of the teachers' logits once and keep them below --data-dir for every student,
    seed and run (143 MB for CIFAR-10; with --mixup or another view that doesn't come again, 0.9 MB per
    epoch and seed). live: run the teachers in every step; also used where the cache would exceed 2 GiB."""

    def check(self) -> None:
        """Raises:
        ConfigError: a temperature or a weight out of range.
        """
        check_positive(self, "temperature")
        distill_weight(self.label_weight, self.distill_weight)

    def resolved(self) -> DistillationOptions:
        """The same with the defaults of the loss filled in."""
        values = vars(self) | {
            "temperature": self.temperature or TEMPERATURES.get(self.distillation_loss, 4.0),
            "distill_weight": distill_weight(self.label_weight, self.distill_weight),
        }
        return DistillationOptions(**values)


@dataclass(frozen=True)
class DistillationOptions:
    """`DistillationFlags` with nothing left open."""

    distillation_loss: str
    temperature: float
    standardize_logits: bool
    label_weight: float
    distill_weight: float
    ensemble: str
    teacher_logits: Literal["cached", "live"]


@dataclass(frozen=True)
class TeacherFlags:
    """How to train a teacher of the registry that has no run yet."""

    teacher_epochs: OptionalInts = None
    """One number, or one for each teacher that is trained (default: as long as the paper)."""
    teacher_width: OptionalFloat = None
    """Default: --width."""
    teacher_seed: int = 0
    """Students of all seeds share this teacher."""

    def check(self) -> None:
        """Raises:
        ConfigError: a number out of range.
        """
        check_min(self, 1, "teacher_epochs")
        check_min(self, 0, "teacher_seed")
        check_positive(self, "teacher_width")


@dataclass(frozen=True)
class TeacherOptions:
    """`TeacherFlags` with nothing left open."""

    teacher_epochs: tuple[int, ...]  # of each teacher that isn't a file, in the order of --teacher
    teacher_width: float
    teacher_seed: int


@dataclass(frozen=True)
class Config:
    """The settings of the command line. Those left open are the paper's, or those of --scale."""

    teacher: tuple[str, ...] = ("deep_resnet",)
    """One or several: networks of the registry, notations such as res-16c^4-gap-10fc, run folders, .keras
    files."""
    student: str = "linear_3"
    """A network of the registry (python -m kapp.models), or a notation such as 512fc^2-10fc."""
    dataset: str = "cifar10"
    """cifar10; cifar100, cifar100:class1, cifar100:class2 or cifar100:CLASS,CLASS,...; shapes, shapes:near,
    shapes:far; tfds:NAME; npz:PATH; folder:PATH[@SIZE]."""
    unlabeled: UnlabeledName = None
    """More training images for the student, without labels: it matches the teacher's logits on them. They are
    in no validation or test."""
    width: OptionalFloat = None
    """Multiplies every layer's filters or units (default: 1, the paper's size)."""
    baseline: bool = True
    """Train the same student on labels as well, to compare."""
    baseline_epochs: OptionalInt = None
    """Epochs on labels (default: as long as the paper; with --labeled or --unlabeled: as many gradient steps
    as the student)."""
    seed: int = 0
    """Of the initial weights, dropout and the epoch plan. The split is the same for every seed."""
    scale: ScaleName = "paper"
    """What settings that are left out are. paper: the printed ones. short: a modern schedule with fewer
    epochs. small: minutes on two CPU cores, to see it work (docs/reproduce.md)."""
    distillation: DistillationFlags = DistillationFlags()
    teacher_training: TeacherFlags = TeacherFlags()
    hparams: HParamFlags = HParamFlags()
    augmentation: AugmentationFlags = AugmentationFlags()
    data: DataOptions = DataOptions()
    compute: ComputeOptions = ComputeOptions()
    output: OutputOptions = OutputOptions()

    interrupted: ClassVar[str] = "The same command resumes from the last checkpoint."

    def check(self) -> None:
        """Refuse wrong values before Keras is imported.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        self.compute.check_one_process("Train the teacher with it first, and give its run folder.")
        cli.backend()
        for options in (
            self.distillation,
            self.teacher_training,
            self.hparams,
            self.augmentation,
            self.data,
            self.compute,
        ):
            options.check()
        check_min(self, 0, "seed")
        check_min(self, 1, "baseline_epochs")
        check_positive(self, "width")
        data.sources.check(self.dataset)
        if self.unlabeled is not None:
            data.sources.check_unlabeled(self.unlabeled)
        if not self.teacher:
            raise ConfigError("--teacher needs at least one name, run folder or .keras file.")
        for teacher in self.teacher:
            is_on_disk(teacher)  # refuses what is no teacher
        models.get_spec(self.student)
        self.resolved().check()

    def resolved(self) -> Settings:
        """The same with every default filled in, from the paper or the scale."""
        scale = scales.get(self.scale)
        config = with_defaults(self, {"train_images": scale.train_images})
        width = config.width or scale.width
        of_teacher = config.teacher_training
        epochs = config.hparams.epochs or scale.epochs(
            "distilled", ratusznik.epochs(config.student, config.teacher[0])
        )
        paper = scale.ratusznik_hparams(epochs)
        baseline_epochs = config.baseline_epochs
        if config.data.labeled is None and config.unlabeled is None:
            baseline_epochs = baseline_epochs or scale.epochs("student", ratusznik.epochs(config.student))
        return Settings(
            teacher=config.teacher,
            student=config.student,
            dataset=config.dataset,
            unlabeled=config.unlabeled,
            width=width,
            baseline=config.baseline,
            baseline_epochs=baseline_epochs,
            seed=config.seed,
            distillation=config.distillation.resolved(),
            teacher_training=TeacherOptions(
                self._teacher_epochs(scale), of_teacher.teacher_width or width, of_teacher.teacher_seed
            ),
            hparams=config.hparams.resolved(paper),
            augmentation=config.augmentation.resolved(),
            data=config.data,
            compute=config.compute,
            output=config.output,
        )

    def _teacher_epochs(self, scale: Scale) -> tuple[int, ...]:
        """The epochs of each teacher that is trained."""
        names = [teacher for teacher in self.teacher if not is_on_disk(teacher)]
        epochs = self.teacher_training.teacher_epochs or ()
        if len(epochs) == 1:
            return epochs * len(names)
        if epochs and len(epochs) != len(names):
            raise ConfigError(
                f"--teacher-epochs has {len(epochs)} values for {len(names)} teachers that are trained: give "
                "one number, or one for each of them."
            )
        return epochs or tuple(default_epochs(scale, name) for name in names)


@dataclass(frozen=True)
class Settings:
    """`Config` with nothing left open."""

    teacher: tuple[str, ...]
    student: str
    dataset: str
    unlabeled: str | None
    width: float
    baseline: bool
    baseline_epochs: int | None  # None: as many gradient steps as the student
    seed: int
    distillation: DistillationOptions
    teacher_training: TeacherOptions
    hparams: HParams
    augmentation: Augmentation
    data: DataOptions
    compute: ComputeOptions
    output: OutputOptions

    def check(self) -> None:
        """Raises:
        ConfigError: settings that don't go together.
        """
        check_hparams(self.hparams)
        self.data.check_batch_size(self.hparams.batch_size)
        for teacher in self.teacher:
            if self.teacher.count(teacher) > 1:
                raise ConfigError(
                    f"--teacher has {teacher} twice: each can come once. Train a second one with another "
                    "--seed, and give its run folder."
                )
        lacks_labels = self.data.labeled is not None or self.unlabeled is not None
        check_labels(self.distillation.distillation_loss, self.augmentation.mixes, lacks_labels)

    @property
    def teacher_files(self) -> list[Path]:
        """Those of the teachers that are run folders or files."""
        return [Path(teacher) for teacher in self.teacher if is_on_disk(teacher)]

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The names of the teachers' networks."""
        return tuple(keras_file.name(each) if is_on_disk(each) else each for each in self.teacher)

    def run_config(self, dataset: Dataset) -> RunConfig:
        """The content of the run's config.json."""
        checksums = tuple(checksum(keras_file.path(file)) for file in self.teacher_files)
        return RunConfig(
            "distill",
            cli.backend(),
            dataset.checksum,
            cli.as_json(self),
            checksums,
            unlabeled_sha256=dataset.unlabeled_sha256,
        )

    def folder(self, dataset: Dataset) -> Path:
        """The run folder."""
        names = [*self.teacher_names, self.student, self.dataset]
        return self.output.out or default_folder(self.run_config(dataset), names)

    def load(self) -> Dataset:
        """The data set of the student, some of whose training images may have no label.

        Raises:
            ConfigError, KappError: as `DataOptions.load`, or as `data.sources.load_unlabeled`.
        """
        options = replace(self.data, labeled=None)
        dataset = options.load(self.dataset, self.hparams.batch_size)
        if self.data.labeled is not None:
            dataset = dataset.hide_labels(self.data.labeled)
        if self.unlabeled is not None:
            images = data.sources.load_unlabeled(self.unlabeled, dataset.image_shape, self.data.data_dir)
            dataset = dataset.add_unlabeled(images, self.data.streamed, data.sources.home(self.data.data_dir))
        return dataset

    def check_data(self, dataset: Dataset) -> None:
        """As `train.Settings.check_data`, of the networks to train, too."""
        check_training(dataset, self.hparams, self.augmentation, self.data.validate_every)
        NetworkOptions(self.width).check_size(self.student, dataset, self.hparams)
        if self.distillation.standardize_logits:
            check_standardized(len(dataset.classes))
        labeled = dataset.source or dataset
        if self.data.labeled is not None:
            labeled = labeled.first_labeled(self.data.labeled)
        for teacher in self.teacher:
            if not is_on_disk(teacher):
                self.teacher_settings(teacher).check_data(labeled)
        if self.baseline:
            self.baseline_settings(dataset).check_data(labeled)

    @property
    def needed_runs(self) -> list[train.Settings]:
        """The runs that must be finished before this one starts: the teachers and the baseline."""
        teachers = [self.teacher_settings(teacher) for teacher in self.teacher if not is_on_disk(teacher)]
        return [*teachers, *([self.baseline_settings()] if self.baseline else [])]

    def baseline_settings(self, dataset: Dataset | None = None) -> train.Settings:
        """How to train the student on labels: on the labeled images alone.

        Without `baseline_epochs` it takes as many gradient steps as the student, and validates after as many,
        and at least once.

        Args:
            dataset: the student's, where it is loaded already.
        """
        data, epochs = self.data, self.baseline_epochs
        if epochs is None:
            dataset = dataset or self.load()
            batch_size = self.hparams.batch_size
            steps = self.hparams.epochs * (len(dataset.train) // batch_size)
            steps_per_epoch = dataset.labeled_images // batch_size
            epochs = max(1, steps // steps_per_epoch)
            images = min(len(dataset.train), epochs * steps_per_epoch * batch_size)
            data = replace(data, validate_every=data.validate_every or images)
        return self._supervised(self.student, epochs, self.width, self.seed, data)

    def teacher_settings(self, teacher: str) -> train.Settings:
        """How to train `teacher`, a network of the registry: on the labeled images alone."""
        options = self.teacher_training
        trained = [name for name in self.teacher if not is_on_disk(name)]
        epochs = options.teacher_epochs[trained.index(teacher)]
        return self._supervised(teacher, epochs, options.teacher_width, options.teacher_seed, self.data)

    def _supervised(
        self, model: str, epochs: int, width: float, seed: int, data: DataOptions
    ) -> train.Settings:
        return train.Settings(
            model=model,
            dataset=self.dataset,
            seed=seed,
            hparams=for_epochs(self.hparams, epochs),
            augmentation=self.augmentation,
            data=data,
            network=NetworkOptions(width),
            compute=self.compute,
            output=OutputOptions(),
        )


def is_on_disk(teacher: str) -> bool:
    """Whether `teacher` is a run folder or a .keras file, and not a network's name or notation.

    Raises:
        ConfigError: it is none of these.
    """
    if not fileio.is_folder(teacher):
        if teacher.startswith(models.RESIDUAL):
            models.get_spec(teacher)  # raises what is wrong with it
        if models.is_notation(teacher):
            return False
    return keras_file.is_file(teacher, models.names(), forms=", or a notation such as res-16c^4-gap-10fc")


def main(config: Config) -> Run:
    """Distill the student of `config`, or find its run."""
    return run(config.resolved())


def run(settings: Settings, stop_epoch: int | None = None) -> Run:
    """Distill the student of `settings`, or find its run; the teachers and the baseline likewise.

    Args:
        stop_epoch: stop after this epoch and score no test image, for a trial of a sweep. A later call
            without it finishes the run.

    Returns:
        The student's run, finished unless `stop_epoch` is set.
    """
    hparams, names = settings.hparams, settings.teacher_names
    dataset = settings.load()
    settings.check_data(dataset)
    settings.compute.check_batch_size(hparams.batch_size)
    config, folder = settings.run_config(dataset), settings.folder(dataset)
    if settings.output.overwrite:
        fileio.refuse_inputs(folder, settings.teacher_files)
    if settings.output.overwrite or not is_finished(folder, config):
        check_teachers(settings, dataset)
    with Run.open(folder, config, settings.output.overwrite) as run:
        teachers = [find_or_train(teacher, settings) for teacher in settings.teacher]
        overlap = count_overlap(names, teachers, dataset, warn=stop_epoch is None and not run.is_finished)
        baseline = train.run(settings.baseline_settings(dataset)) if settings.baseline else None
        if run.is_finished:
            print(f"{settings.student}: already complete, skipping", flush=True)
        else:
            settings.compute.start(hparams.batch_size)
            from kapp.training import Distiller, loop, optimizers

            student = NetworkOptions(settings.width).build(settings.student, dataset, settings.seed)
            teacher, kind = load_teacher(teachers, settings, dataset)
            distiller = Distiller(
                teacher=teacher, student=student, dataset=dataset, augmentation=settings.augmentation
            )
            distiller.compile(
                optimizers.build(hparams, len(dataset.train) // hparams.batch_size),
                distillation_loss=settings.distillation.distillation_loss,
                temperature=settings.distillation.temperature,
                label_weight=settings.distillation.label_weight,
                distill_weight=settings.distillation.distill_weight,
                standardize_logits=settings.distillation.standardize_logits,
                label_smoothing=hparams.label_smoothing,
                ema=hparams.ema,
            )
            print(f"{settings.student}: {hparams.epochs} epochs from {' + '.join(names)}", flush=True)
            loop.train(
                distiller,
                dataset,
                run,
                hparams,
                loop.RunDetails(
                    recipe="distill",
                    model=settings.student,
                    seed=settings.seed,
                    teachers=names,
                    teacher_logits=kind,
                    validation_overlap=overlap,
                ),
                validate_every=settings.data.validate_every,
                stop_epoch=stop_epoch,
            )
        if stop_epoch is None:
            write_report(run, baseline, [Run(path) for path in teachers if fileio.is_folder(path)])
    return run


def check_teachers(settings: Settings, dataset: Dataset) -> None:
    """Refuse teachers on disk that don't fit the data set, before anything is written or trained.

    Raises:
        ConfigError: other classes or images than the data set's.
    """
    files = settings.teacher_files
    if not files:
        return
    cli.start_keras()
    # Teachers whose logits are cached were checked when they were cached.
    if len(files) < len(settings.teacher) or not cached_logits(files, settings, dataset).exists:
        for path in files:
            keras_file.load(path, dataset.image_shape, dataset.classes)


def find_or_train(teacher: str, settings: Settings) -> Path:
    """The run folder or .keras file of `teacher`; a network of the registry is trained unless its run
    exists."""
    return Path(teacher) if is_on_disk(teacher) else train.run(settings.teacher_settings(teacher)).folder


def count_overlap(names: Sequence[str], teachers: Sequence[Path], dataset: Dataset, warn: bool) -> Overlap:
    """How many validation images each teacher was trained on; `warn`: print what follows."""
    overlap = tuple(data.validation_overlap.count(path, dataset) for path in teachers)
    warning = data.validation_overlap.warning("teacher", names, overlap, len(dataset.validation))
    if warn and warning:
        print(warning, flush=True)
    return overlap


def load_teacher(teachers: Sequence[Path], settings: Settings, dataset: Dataset):
    """The teacher for a `Distiller`, and whether its logits are "cached" or "live"."""
    from kapp.training.teacher_ensemble import TeacherEnsemble

    if settings.distillation.teacher_logits == "cached":
        logits = cached_logits(teachers, settings, dataset)
        epochs = settings.hparams.epochs
        if logits.fits(epochs):
            return logits, "cached"
        gigabytes = logits.size(epochs) / 2**30
        print(f"the teachers' logits take {gigabytes:.1f} GiB: too large to cache, running live")
    networks = [keras_file.load(path, dataset.image_shape, dataset.classes) for path in teachers]
    return TeacherEnsemble(networks, settings.distillation.ensemble), "live"


def cached_logits(teachers: Sequence[Path], settings: Settings, dataset: Dataset):
    """The `TeacherLogits` of the networks in `teachers`, cached where the data is."""
    from kapp.training import TeacherLogits

    folder = data.sources.home(settings.data.data_dir) / "teacher_logits"
    return TeacherLogits(teachers, dataset, settings.augmentation, settings.distillation.ensemble, folder)


def write_report(run: Run, baseline: Run | None, teachers: Sequence[Run]) -> None:
    """Write report.md, unless it exists, and print the comparison."""
    from kapp.reporting import run_report, tables

    if not fileio.is_file(run.report_file):
        run_report.write_distillation(run, baseline, teachers)
    compared = [*teachers, *([baseline] if baseline else []), run]
    print(f"\n{tables.comparison(tables.rows(each.folder for each in compared))}\n")
    print(f"report: {run.report_file}", flush=True)


if __name__ == "__main__":
    cli.run(Config, main)
