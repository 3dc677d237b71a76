"""Train a network on labels.

    python -m kapp.recipes.train --model linear_3 --dataset cifar10

leaves runs/train-linear_3-cifar10-s0-.../ with result.json, model.keras and report.md. Published test
accuracy: 55.12% for linear_3 after 75 epochs on 40,000 images (Ratusznik et al., table 3), 83.28% for
all_cnn_c after 350 epochs on 49,000 images (Hu 2018, table 3, from code that differs from its text).
With --dataset shapes --scale small it takes less than a minute on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kapp import cli, data, distributed
from kapp.fileio import is_file
from kapp.papers import scales
from kapp.papers.hparams import HParams
from kapp.recipes.settings import (
    AugmentationFlags,
    ComputeOptions,
    DataOptions,
    HParamFlags,
    NetworkFlags,
    NetworkOptions,
    OutputOptions,
    ScaleName,
    check_hparams,
    check_min,
    check_training,
    default_epochs,
    default_hparams,
    with_defaults,
)
from kapp.records import RunConfig
from kapp.run_folder import Run, default_folder

if TYPE_CHECKING:
    from kapp.data import Augmentation, Dataset


@dataclass(frozen=True)
class Config:
    """The settings of the command line. Those left open are the paper's, or those of --scale."""

    model: str = "linear_3"
    """A network of the registry (python -m kapp.models), or a notation such as 512fc^2-10fc."""
    dataset: str = "cifar10"
    """cifar10; cifar100, cifar100:class1, cifar100:class2 or cifar100:CLASS,CLASS,...; shapes, shapes:near,
    shapes:far; tfds:NAME; npz:PATH; folder:PATH[@SIZE]."""
    seed: int = 0
    """Of the initial weights, dropout and the epoch plan. The split is the same for every seed."""
    scale: ScaleName = "paper"
    """What settings that are left out are. paper: the printed ones. short: a modern schedule with fewer
    epochs. small: minutes on two CPU cores, to see it work (docs/reproduce.md)."""
    hparams: HParamFlags = HParamFlags()
    augmentation: AugmentationFlags = AugmentationFlags()
    data: DataOptions = DataOptions()
    network: NetworkFlags = NetworkFlags()
    compute: ComputeOptions = ComputeOptions()
    output: OutputOptions = OutputOptions()

    interrupted: ClassVar[str] = "The same command resumes from the last checkpoint."

    def check(self) -> None:
        """Refuse wrong values before Keras is imported.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        cli.backend()
        for options in (self.hparams, self.augmentation, self.data, self.compute):
            options.check()
        check_min(self, 0, "seed")
        data.sources.check(self.dataset)
        self.network.check(self.model, self.hparams)
        self.resolved().check()

    def resolved(self) -> Settings:
        """The same with every default filled in, from the paper or the scale."""
        scale = scales.get(self.scale)
        config = with_defaults(self, {"train_images": scale.train_images})
        epochs = config.hparams.epochs or default_epochs(scale, self.model)
        paper = default_hparams(scale, self.model, epochs, self.network.code_variants)
        return Settings(
            model=config.model,
            dataset=config.dataset,
            seed=config.seed,
            hparams=config.hparams.resolved(paper),
            augmentation=config.augmentation.resolved(self.model),
            data=config.data,
            network=config.network.resolved(scale.width),
            compute=config.compute,
            output=config.output,
        )


@dataclass(frozen=True)
class Settings:
    """`Config` with nothing left open."""

    model: str
    dataset: str
    seed: int
    hparams: HParams
    augmentation: Augmentation
    data: DataOptions
    network: NetworkOptions
    compute: ComputeOptions
    output: OutputOptions

    def check(self) -> None:
        """Raises:
        ConfigError: settings that don't go together.
        """
        check_hparams(self.hparams)
        self.data.check_batch_size(self.hparams.batch_size)

    def check_data(self, dataset: Dataset) -> None:
        """Refuse settings that can't work with `dataset`, before anything is written.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        check_training(dataset, self.hparams, self.augmentation, self.data.validate_every)
        self.network.check_size(self.model, dataset, self.hparams)

    @property
    def needed_runs(self) -> list[Settings]:
        """The runs that must be finished before this one starts: none."""
        return []

    def run_config(self, dataset: Dataset) -> RunConfig:
        """The content of the run's config.json."""
        return RunConfig("train", cli.backend(), dataset.checksum, cli.as_json(self))

    def folder(self, dataset: Dataset) -> Path:
        """The run folder."""
        return self.output.out or default_folder(self.run_config(dataset), [self.model, self.dataset])


def main(config: Config) -> Run:
    """Train the network of `config`, or find its run."""
    return run(config.resolved())


def run(settings: Settings, stop_epoch: int | None = None) -> Run:
    """Train the network of `settings`, or find its run.

    Args:
        stop_epoch: stop after this epoch and score no test image, for a trial of a sweep. A later call
            without it finishes the run.

    Returns:
        The run, finished unless `stop_epoch` is set.
    """
    hparams = settings.hparams
    settings.compute.join()
    dataset = settings.data.load(settings.dataset, hparams.batch_size)
    settings.check_data(dataset)
    settings.compute.check_batch_size(hparams.batch_size)
    config = settings.run_config(dataset)
    with Run.open(settings.folder(dataset), config, settings.output.overwrite) as run:
        if run.is_finished:
            print(f"{settings.model}: already complete, skipping", flush=True)
        else:
            settings.compute.start(hparams.batch_size)
            from kapp.training import Learner, loop, optimizers

            network = settings.network.build(settings.model, dataset, settings.seed)
            learner = Learner(network, dataset, settings.augmentation)
            learner.compile(
                optimizers.build(
                    hparams,
                    len(dataset.train) // hparams.batch_size,
                    settings.network.code_variants,
                ),
                label_smoothing=hparams.label_smoothing,
                ema=hparams.ema,
            )
            print(
                f"{settings.model}: {network.count_params():,} parameters, {hparams.epochs} epochs on labels",
                flush=True,
            )
            details = loop.RunDetails(recipe="train", model=settings.model, seed=settings.seed)
            loop.train(
                learner,
                dataset,
                run,
                hparams,
                details,
                validate_every=settings.data.validate_every,
                keep_last="last_epoch" in settings.network.code_variants,
                stop_epoch=stop_epoch,
            )
        if stop_epoch is None:
            write_report(run)
    return run


def write_report(run: Run) -> None:
    """Write report.md, unless it exists, and print the result."""
    from kapp.reporting import run_report

    if distributed.is_primary() and not is_file(run.report_file):
        run_report.write(run)
    result = run.result
    print(f"{result.model}: test accuracy {result.test_accuracy:.1%}, {run.report_file}", flush=True)


if __name__ == "__main__":
    cli.run(Config, main)
