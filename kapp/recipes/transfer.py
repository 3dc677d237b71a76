"""Transfer a network that was trained on a large data set to a small one, in two phases.

    python -m kapp.recipes.transfer --model all_cnn_c --source cifar10 --target cifar100:class1

trains the network on the source (or finds its run), the same network on the target from scratch, a new head
on the source's frozen features (linear probe; "phase 1" of Hu 2018), and then the whole network
(fine-tuning; "phase 2").
It leaves a run folder with report.md. Hu 2018, table 4, on 5,000 images: 68.75% from scratch, 52.10% by the
linear probe, 75.05% after fine-tuning. `make transfer-demo` takes less than three minutes on two CPU cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kapp import cli, data, models, records
from kapp.errors import ConfigError
from kapp.fileio import checksum, is_file, is_folder, refuse_inputs
from kapp.models import keras_file
from kapp.papers import hu, scales
from kapp.papers.hparams import HParams
from kapp.recipes import train
from kapp.recipes.settings import (
    NETWORK_VARIANTS,
    AugmentationFlags,
    CodeVariant,
    ComputeOptions,
    DataOptions,
    HParamFlags,
    NetworkFlags,
    NetworkOptions,
    OptionalFloat,
    OptionalFloats,
    OptionalInt,
    OptionalStr,
    OutputOptions,
    ScaleName,
    check_hparams,
    check_min,
    check_positive,
    check_training,
    default_epochs,
    default_hparams,
    for_epochs,
    with_defaults,
)
from kapp.records import RunConfig, RunResult
from kapp.run_folder import Run, default_folder, file_name

if TYPE_CHECKING:
    from kapp.data import Augmentation, Dataset
    from kapp.data.validation_overlap import Overlap


@dataclass(frozen=True)
class SourceFlags:
    """How to train the network on a source that has no run yet."""

    source_epochs: OptionalInt = None
    """Default: as long as its paper."""
    source_images: OptionalInt = None
    """Train on that many images of the source at most."""
    source_validation_images: OptionalInt = None
    """Training images of the source held out to select its best network (default: a fifth)."""
    source_rates: OptionalFloats = None
    """With the multistep schedule: the learning rates of the source's training (default: as --rates)."""
    source_seed: int = 0
    """Transfers of all seeds share this source."""

    def check(self) -> None:
        """Raises:
        ConfigError: a number out of range.
        """
        check_min(self, 1, "source_epochs", "source_images")
        check_min(self, 0, "source_seed", "source_validation_images")
        check_positive(self, "source_rates")


@dataclass(frozen=True)
class PhaseFlags:
    """The two phases. --epochs are those of fine-tuning (default of both phases: 50, as Hu 2018)."""

    head: Literal["linear", "mlp"] = "linear"
    """What replaces the source's last layer: one like it, or one with a hidden layer before it."""
    probe_epochs: OptionalInt = None
    """Epochs of the linear probe."""
    probe_learning_rate: OptionalFloat = None
    """Of the linear probe (default: --learning-rate, as from scratch)."""
    probe_crop_padding: int = 0
    """Crops move by up to that many pixels in the linear probe. Features of few views are computed only
    once."""
    finetune_learning_rate: OptionalFloat = None
    """Of fine-tuning (default: --learning-rate, as from scratch)."""

    def check(self) -> None:
        """Raises:
        ConfigError: a number out of range.
        """
        check_min(self, 1, "probe_epochs")
        check_min(self, 0, "probe_crop_padding")
        check_positive(self, "probe_learning_rate", "finetune_learning_rate")


@dataclass(frozen=True)
class Phases:
    """`PhaseFlags` with nothing left open."""

    head: Literal["linear", "mlp"]
    probe_epochs: int
    probe_learning_rate: float
    probe_crop_padding: int
    finetune_learning_rate: float


@dataclass(frozen=True)
class Config:
    """The settings of the command line. Those left open are the paper's, or those of --scale."""

    model: OptionalStr = None
    """A network of the registry (python -m kapp.models), or a notation (default: the source run's, or
    all_cnn_c)."""
    source: str = "cifar10"
    """A data set to train the network on first, or a finished run, or a .keras file."""
    target: tuple[str, ...] = ("cifar100:class1", "cifar100:class2")
    """One or several small data sets, with names as for --dataset of the other recipes."""
    scratch_baseline: bool = True
    """Train the network on the target from scratch as well, to compare (for a .keras file: if --model is
    set)."""
    scratch_epochs: OptionalInt = None
    """Epochs from scratch (default: as long as its paper)."""
    seed: int = 0
    """Of the initial weights, dropout and the epoch plan. The split is the same for every seed."""
    scale: ScaleName = "paper"
    """What settings that are left out are. paper: the printed ones. short: a modern schedule with fewer
    epochs. small: minutes on two CPU cores, to see it work (docs/reproduce.md)."""
    source_training: SourceFlags = SourceFlags()
    phases: PhaseFlags = PhaseFlags()
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
        self.compute.check_one_process("Train the source with it first, and give its run folder.")
        cli.backend()
        for options in (
            self.source_training,
            self.phases,
            self.hparams,
            self.augmentation,
            self.data,
            self.compute,
        ):
            options.check()
        check_min(self, 0, "seed")
        check_min(self, 1, "scratch_epochs")
        check_positive(self.network, "width")
        if source_file(self.source) is None:
            data.sources.check(self.source)
        for target in self.target:
            data.sources.check(target)
        if not self.target:
            raise ConfigError("--target needs at least one data set.")
        if self.output.out is not None and len({*map(file_name, self.target)}) < len(self.target):
            raise ConfigError(
                "two of --target have the same file name: leave out --out, or transfer to one at a time."
            )
        settings = self.resolved()
        if settings.model is not None:
            self.network.check(settings.model, self.hparams)
        settings.check()
        network = source_network(self.source)
        if network is not None and self.model not in (None, network):
            raise ConfigError(
                f"--model is {self.model}, but the source is a run of {network}: leave one of them out."
            )

    def resolved(self) -> Settings:
        """The same with every default filled in, from the paper or the scale, and from the source's run."""
        scale = scales.get(self.scale)
        images = {"train_images": scale.target_images, "source_images": scale.train_images}
        config = with_defaults(self, images)
        model = config.model or source_network(self.source)
        if model is None and source_file(self.source) is None:
            model = "all_cnn_c"
        source_epochs = config.source_training.source_epochs
        scratch_epochs = config.scratch_epochs
        if model is not None:
            source_epochs = source_epochs or default_epochs(scale, model)
            scratch_epochs = scratch_epochs or default_epochs(scale, model, "scratch")
        epochs = config.hparams.epochs or scale.epochs("fine_tuning", hu.PHASE_EPOCHS)
        hparams = config.hparams.resolved(default_hparams(scale, model, epochs, config.network.code_variants))
        return Settings(
            model=model,
            source=config.source,
            target=config.target,
            scratch_baseline=config.scratch_baseline,
            scratch_epochs=scratch_epochs,
            seed=config.seed,
            source_training=replace(config.source_training, source_epochs=source_epochs),
            phases=Phases(
                config.phases.head,
                config.phases.probe_epochs or scale.epochs("linear_probe", hu.PHASE_EPOCHS),
                config.phases.probe_learning_rate or hparams.learning_rate,
                config.phases.probe_crop_padding,
                config.phases.finetune_learning_rate or hparams.learning_rate,
            ),
            hparams=hparams,
            augmentation=config.augmentation.resolved(model),
            data=config.data,
            network=inherited(config.network, self.source) or config.network.resolved(scale.width),
            compute=config.compute,
            output=config.output,
        )


@dataclass(frozen=True)
class Settings:
    """`Config` with nothing left open. Only a network from a .keras file may have no model."""

    model: str | None
    source: str
    target: tuple[str, ...]
    scratch_baseline: bool
    scratch_epochs: int | None  # None without a model
    seed: int
    source_training: SourceFlags
    phases: Phases
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
        rates = {self.phases.probe_learning_rate, self.phases.finetune_learning_rate}
        if self.hparams.rates and rates != {self.hparams.learning_rate}:
            raise ConfigError(
                "--rates are the learning rates of both phases: leave out --probe-learning-rate and "
                "--finetune-learning-rate."
            )
        images, batch_size = self.source_training.source_images, self.hparams.batch_size
        if source_file(self.source) is None and images is not None and images < batch_size:
            raise ConfigError(
                f"--source-images is {images}: it must be at least one batch, --batch-size {batch_size}."
            )
        for settings in self.needed_runs:
            settings.check()
        self.data.check_batch_size(batch_size)

    @property
    def source_name(self) -> str:
        """What reports call the source: a data set, or the name of a file."""
        file, result = source_file(self.source), source_result(self.source)
        return result.dataset if result else file.stem if file else self.source

    @property
    def linear_probe(self) -> tuple[HParams, Augmentation]:
        """How the linear probe is trained: on crops and flips alone, and without averaged weights."""
        hparams = for_epochs(self.hparams, self.phases.probe_epochs)
        return (
            replace(hparams, learning_rate=self.phases.probe_learning_rate, ema=0.0),
            data.Augmentation(
                self.phases.probe_crop_padding,
                self.augmentation.flip,
                flip_order=self.augmentation.flip_order,
            ),
        )

    @property
    def fine_tuning(self) -> tuple[HParams, Augmentation]:
        """How the whole network is trained."""
        return replace(self.hparams, learning_rate=self.phases.finetune_learning_rate), self.augmentation

    def run_config(self, dataset: Dataset, source: Path) -> RunConfig:
        """The content of the run's config.json."""
        sha256 = checksum(keras_file.path(source))
        return RunConfig("transfer", cli.backend(), dataset.checksum, cli.as_json(self), source_sha256=sha256)

    def folder(self, dataset: Dataset, source: Path) -> Path:
        """The run folder of a transfer from the network in `source`."""
        names = [self.model or self.source_name, self.source_name, self.target[0]]
        return self.output.out or default_folder(self.run_config(dataset, source), names)

    def check_data(self, dataset: Dataset) -> None:
        """As `train.Settings.check_data`, of both phases and of the network from scratch."""
        for hparams, augmentation in (self.linear_probe, self.fine_tuning):
            check_training(dataset, hparams, augmentation, self.data.validate_every)
        if self.scratch_baseline and self.model:
            self.scratch_settings().check_data(dataset)

    @property
    def needed_runs(self) -> list[train.Settings]:
        """The runs that must be finished before this one starts: of the source, and from scratch."""
        source = [self.source_settings()] if source_file(self.source) is None else []
        return [*source, *([self.scratch_settings()] if self.scratch_baseline and self.model else [])]

    def source_settings(self) -> train.Settings:
        """How to train the network on a source that is a data set."""
        options = self.source_training
        data = replace(
            self.data,
            train_images=options.source_images,
            labeled=None,
            validation_images=options.source_validation_images,
        )
        settings = self._supervised(self.source, options.source_epochs, data, options.source_seed)
        rates = options.source_rates
        if not rates:
            return settings
        return replace(settings, hparams=replace(settings.hparams, rates=rates, learning_rate=rates[0]))

    def scratch_settings(self) -> train.Settings:
        """How to train the network on the target from scratch."""
        return self._supervised(self.target[0], self.scratch_epochs, self.data, self.seed)

    def _supervised(self, dataset: str, epochs: int | None, data: DataOptions, seed: int) -> train.Settings:
        if self.model is None or epochs is None:
            raise ConfigError("--model is needed: the source doesn't name its network.")
        return train.Settings(
            model=self.model,
            dataset=dataset,
            seed=seed,
            hparams=for_epochs(self.hparams, epochs),
            augmentation=self.augmentation,
            data=data,
            network=self.network,
            compute=self.compute,
            output=OutputOptions(),
        )


def source_file(source: str) -> Path | None:
    """The path of a source that is a run folder or a file; None for a data set.

    Raises:
        ConfigError: it is none of these.
    """
    if ":" in source:
        return None
    is_file = keras_file.is_file(source, data.sources.NAMES, "source", data.sources.FORMS)
    return Path(source) if is_file else None


def source_result(source: str) -> RunResult | None:
    """The result of a source that is a run folder; None for a data set or a file."""
    file = source_file(source)
    return Run(file).result if file is not None and is_folder(file) else None


def source_network(source: str) -> str | None:
    """The network of a source that is a run folder; None for a data set, a file, or a run that began with the
    file of a network that isn't in kapp's registry."""
    result = source_result(source)
    if result is None:
        return None
    try:
        models.get_spec(result.model)
    except ConfigError:
        return None
    return result.model


def inherited(flags: NetworkFlags, source: str) -> NetworkOptions | None:
    """The options of the network from scratch, so that it is like that of a source that is a run folder: its
    width, its pooling, its code variants; and the code variants in `flags` that are of the training.

    Returns:
        None for a source without `source_network`.

    Raises:
        ConfigError: `flags` have another network.
    """
    if source_network(source) is None:
        return None
    run = Run(source)
    # A distilled student has neither of these two.
    settings = {"pooling_norm": "inf", "code_variants": [], **run.config.settings}
    norm = math.inf if settings["pooling_norm"] == "inf" else run.setting("pooling_norm", float)
    variants = records.setting(settings, "code_variants", tuple[CodeVariant, ...], run.config_file)
    own = tuple(name for name in variants if name in NETWORK_VARIANTS)
    options = NetworkOptions(run.setting("width", float), norm, own)
    given = {name for name in flags.code_variants if name in NETWORK_VARIANTS}
    for flag, differs in (
        ("--width", flags.width not in (None, options.width)),
        ("--pooling-norm", flags.pooling_norm not in (math.inf, norm)),
        ("--code-variants", given and given != {*own}),
    ):
        if differs:
            raise ConfigError(
                f"{flag} is not as in the source, the run {source}, whose network is transferred: leave it "
                "out."
            )
    of_training = tuple(name for name in flags.code_variants if name not in NETWORK_VARIANTS)
    return replace(options, code_variants=own + of_training)


def main(config: Config) -> list[Run]:
    """Transfer to each target of `config`; return all runs."""
    settings = config.resolved()
    # Data sets that can't be read are refused before anything is trained.
    datasets = [settings.data.load(target, settings.hparams.batch_size) for target in settings.target]
    for target, dataset in zip(settings.target, datasets):
        replace(settings, target=(target,)).check_data(dataset)
    source = find_or_train_source(settings)
    runs = []
    for target, dataset in zip(settings.target, datasets):
        out = settings.output.out
        if out is not None and len(datasets) > 1:
            out = out / file_name(target)
        one = replace(settings, target=(target,), output=replace(settings.output, out=out))
        runs += transfer(one, dataset, source)
    from kapp.reporting import tables

    print(f"\n{tables.comparison(tables.rows(run.folder for run in runs))}", flush=True)
    return runs


def run(settings: Settings, stop_epoch: int | None = None) -> Run:
    """Transfer to the one target of `settings`, or find the run.

    Args:
        stop_epoch: stop fine-tuning after this epoch and score no test image, for a trial of a sweep. A later
            call without it finishes the run.

    Returns:
        The run of fine-tuning, finished unless `stop_epoch` is set.
    """
    dataset = settings.data.load(settings.target[0], settings.hparams.batch_size)
    settings.check_data(dataset)
    return transfer(settings, dataset, find_or_train_source(settings), stop_epoch)[-1]


def find_or_train_source(settings: Settings) -> Path:
    """The run folder or file of the source; a data set is trained on unless its run exists."""
    return source_file(settings.source) or train.run(settings.source_settings()).folder


def transfer(settings: Settings, dataset: Dataset, source: Path, stop_epoch: int | None = None) -> list[Run]:
    """The runs from scratch (where wanted), of the linear probe and of fine-tuning, on one target."""
    settings.compute.check_batch_size(settings.hparams.batch_size)
    config = settings.run_config(dataset, source)
    folder, overwrite = settings.folder(dataset, source), settings.output.overwrite
    if overwrite:
        refuse_inputs(folder, [source])
    with Run.open(folder, config, overwrite) as run, Run.open(run.linear_probe, config, overwrite) as probe:
        overlap = data.validation_overlap.count_source(source, dataset)
        warning = data.validation_overlap.warning(
            "source", [settings.source_name], overlap, len(dataset.validation)
        )
        if warning and stop_epoch is None and not run.is_finished:
            print(warning, flush=True)
        scratch = None
        if settings.scratch_baseline and settings.model:
            scratch = train.run(settings.scratch_settings())
        if run.is_finished:
            print(f"{settings.model or settings.source_name}: already complete, skipping", flush=True)
        else:
            if not probe.is_finished:
                train_linear_probe(settings, dataset, source, probe, overlap, stop_epoch)
            fine_tune(settings, dataset, probe, run, overlap, stop_epoch)
        if stop_epoch is None:
            write_report(run, probe, scratch)
    return [*([scratch] if scratch else []), probe, run]


def train_linear_probe(
    settings: Settings, dataset: Dataset, source: Path, run: Run, overlap: Overlap, stop_epoch: int | None
) -> None:
    """Train a new head on the frozen features of the network in `source`, from where `run` stands; score it
    unless `stop_epoch`, an epoch of fine-tuning, is set."""
    hparams, augmentation = settings.linear_probe
    settings.compute.start(hparams.batch_size)
    from kapp.training.linear_probe import LinearProbe, replace_head, set_trainable, should_cache

    network = keras_file.load(source, dataset.image_shape, role="source")
    parts = replace_head(network, len(dataset.classes), settings.phases.head, settings.seed)
    set_trainable(parts.backbone, False)
    cache = should_cache(parts, dataset, augmentation, hparams.epochs)
    learner = LinearProbe(parts, dataset, augmentation, cache_features=cache)
    last_epoch = None if stop_epoch is None else hparams.epochs
    train_phase(learner, "linear_probe", settings, hparams, dataset, run, overlap, last_epoch)


def fine_tune(
    settings: Settings, dataset: Dataset, probe: Run, run: Run, overlap: Overlap, stop_epoch: int | None
) -> None:
    """Train the whole network of `probe`, from where `run` stands; score it unless `stop_epoch` is set."""
    hparams, augmentation = settings.fine_tuning
    settings.compute.start(hparams.batch_size)
    from kapp.training import Learner
    from kapp.training.linear_probe import set_random_seeds, set_trainable

    network = keras_file.load(probe.folder, dataset.image_shape, role="source")
    set_trainable(network, True)
    set_random_seeds(network, settings.seed)
    learner = Learner(network, dataset, augmentation)
    train_phase(learner, "fine_tuning", settings, hparams, dataset, run, overlap, stop_epoch)


def train_phase(
    learner: Any,
    phase: Literal["linear_probe", "fine_tuning"],
    settings: Settings,
    hparams: HParams,
    dataset: Dataset,
    run: Run,
    overlap: Overlap,
    stop_epoch: int | None,
) -> None:
    """Compile the learner of one phase, train it, and score it unless `stop_epoch` is set."""
    from kapp.training import loop, optimizers

    learner.compile(
        optimizers.build(
            hparams,
            len(dataset.train) // hparams.batch_size,
            settings.network.code_variants,
        ),
        label_smoothing=hparams.label_smoothing,
        ema=hparams.ema,
    )
    name, source = settings.model or settings.source_name, settings.source_name
    weights = sum(math.prod(variable.shape) for variable in learner.trainable_variables)
    words = {"linear_probe": "linear probe", "fine_tuning": "fine-tuning"}[phase]
    print(f"{name} on {dataset.name}, {words}: {weights:,} weights, {hparams.epochs} epochs", flush=True)
    loop.train(
        learner,
        dataset,
        run,
        hparams,
        loop.RunDetails(
            recipe="transfer",
            model=name,
            seed=settings.seed,
            source=source,
            phase=phase,
            validation_overlap=overlap,
        ),
        validate_every=settings.data.validate_every,
        keep_last="last_epoch" in settings.network.code_variants,
        stop_epoch=stop_epoch,
    )


def write_report(run: Run, probe: Run, scratch: Run | None) -> None:
    """Write report.md of both phases, unless it exists."""
    from kapp.reporting import run_report

    if not is_file(run.report_file):
        run_report.write(probe)
        run_report.write_transfer(run, probe, scratch)
    print(f"report: {run.report_file}", flush=True)


if __name__ == "__main__":
    cli.run(Config, main)
