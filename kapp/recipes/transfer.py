"""Take a network that was trained on much data to a small data set, in two phases.

    python -m kapp.recipes.transfer --model all_cnn_c --source cifar10 --target cifar100:class1

trains the network on the source (or finds its run), the same network on the target from scratch, a new head
on the source's frozen features (phase 1), and then the whole (phase 2); leaves a run folder with report.md.
Paper A, table 4: 68.75% from scratch, 52.10% after phase 1, 75.05% after phase 2. On two CPU cores
`make transfer-demo` takes under three minutes.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from kapp import cli
from kapp.data import Dataset, Views, sources
from kapp.errors import WrongValue
from kapp.files import checksum
from kapp.papers import all_convolutional as paper_a
from kapp.papers.training import Training
from kapp.recipes import train
from kapp.recipes.settings import OnLabels, OpenCount, OpenSize, Values, above_zero, at_least, filled
from kapp.runs import Run, default_folder, file_name
from kapp.training import pretrained

QUICK = {
    "epochs": 10,
    "head_epochs": 20,
    "scratch_epochs": 16,
    "source_epochs": 6,
    "source_images": 4000,
    "limit_train": 800,
    "width": 0.125,
}


@dataclass(frozen=True)
class Config(OnLabels):
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")] = None
    """A network of the catalogue (python -m kapp.models), or a notation (default: that of the source's run,
    or all_cnn_c)."""
    source: str = "cifar10"
    """A data set to train the network on first, or a finished run, or a .keras file."""
    target: tuple[str, ...] = ("cifar100:class1", "cifar100:class2")
    """One or several small data sets, named as --dataset of the other recipes is."""
    head: Literal["linear", "mlp"] = "linear"
    """What replaces the layer of the source's classes: one like it, or one with a hidden layer before it."""
    head_epochs: OpenCount = None
    """Epochs of phase 1; --epochs are those of phase 2 (default of both: 50, as in paper A)."""
    head_learning_rate: OpenSize = None
    """Of phase 1 (default: --learning-rate, which is that of the source and from scratch, as in paper A)."""
    whole_learning_rate: OpenSize = None
    """Of phase 2 (default: the same)."""
    head_shift: int = 0
    """Crops move by up to that many pixels in phase 1. Where its views are few, their features are computed
    once."""
    scratch: bool = True
    """Train the network on the target from scratch as well, to compare (for a .keras file: if --model is
    given)."""
    scratch_epochs: OpenCount = None
    """Epochs from scratch (default: as many as its paper's)."""
    source_epochs: OpenCount = None
    """Epochs on a source that has no run yet (default: as many as its paper's)."""
    source_images: OpenCount = None
    """Train on that many images of the source at most."""
    source_seed: int = 0
    """Seed of a source that has no run yet: transfers of all seeds share it."""

    @property
    def source_file(self) -> Path | None:
        """The source, where it is a run folder or a file and not a data set."""
        if ":" in self.source:
            return None
        on_disk = pretrained.is_file(self.source, sources.NAMES, "source", sources.FORMS)
        return Path(self.source) if on_disk else None

    @property
    def source_name(self) -> str:
        """What reports call the source."""
        if self.source_file is None:
            return self.source
        return self._source_run.get("dataset", self.source_file.stem)

    def check(self) -> None:
        self.refuse_several_processes("Train the source with it first, and give its run.")
        super().check()
        if self.source_file is None:
            sources.check(self.source)
        for target in self.target:
            sources.check(target)
        at_least(self, 1, "head_epochs", "scratch_epochs", "source_epochs", "source_images")
        at_least(self, 0, "head_shift", "source_seed")
        above_zero(self, "head_learning_rate", "whole_learning_rate")
        config = self.resolved()
        if config.model is not None:
            self.check_network(config.model)
        config.check_together()
        if not self.target:
            raise WrongValue("--target needs at least one data set.")
        held = self._source_run.get("model", self.model)
        if self.model not in (None, held):
            raise WrongValue(f"--model is {self.model}, but the source holds {held}: leave one of them out.")

    def resolved(self) -> "Config":
        """The same with nothing left open, but for the model of a .keras file."""
        model = self.model or ("all_cnn_c" if self.source_file is None else self._source_run.get("model"))
        full: Values = {"epochs": paper_a.PHASE_EPOCHS, "head_epochs": paper_a.PHASE_EPOCHS}
        full |= {"width": self._source_run.get("width", 1.0)}
        as_long = train.paper_epochs(model) if model else None
        full |= {"scratch_epochs": as_long, "source_epochs": as_long}
        config = replace(self, **filled(self, QUICK if self.quick else {}, full), model=model)
        assert config.epochs
        config = replace(config, **filled(config, self.as_its_paper(model, config.epochs)))
        rate = config.training.learning_rate
        rates = {"head_learning_rate": rate, "whole_learning_rate": rate}
        return replace(config, **filled(config, rates))

    @property
    def _source_run(self) -> dict[str, Any]:
        """The result of the source's run, where there is one."""
        file = self.source_file
        return Run(file).result if file is not None and file.is_dir() else {}

    def on_labels(self, dataset: str, epochs: int | None, **changes: Any) -> train.Config:
        """The config that trains the model on `dataset` alone, all else equal."""
        assert epochs
        shared = {field.name: getattr(self, field.name) for field in fields(OnLabels)}
        more = {"dataset": dataset, "model": self.model, "epochs": epochs, "out": None, "overwrite": False}
        return train.Config(**{**shared, **more, "milestones": self.milestones_in(epochs), **changes})

    def source_training(self) -> train.Config:
        """The config that trains the network on a source that is a data set."""
        return self.on_labels(
            self.source,
            self.source_epochs,
            seed=self.source_seed,
            limit_train=self.source_images,
            validation=None,
        )

    def phase(self, number: int) -> Training:
        """How phase 1 or 2 trains."""
        assert self.head_epochs and self.head_learning_rate and self.whole_learning_rate  # resolved
        if number == 2:
            return replace(self.training, learning_rate=self.whole_learning_rate)
        return replace(
            self.training,
            learning_rate=self.head_learning_rate,
            milestones=self.milestones_in(self.head_epochs),
            shift=self.head_shift,
        )

    def milestones_in(self, epochs: int) -> tuple[int, ...]:
        """Where the rate falls in a training of `epochs`: at the same shares as in phase 2."""
        assert self.epochs
        if self.training.milestones == paper_a.milestones(self.epochs):
            return paper_a.milestones(epochs)
        return tuple(max(1, round(at * epochs / self.epochs)) for at in self.training.milestones)


def main(config: Config) -> list[Run]:
    config = config.resolved()
    datasets = [config.load(target) for target in config.target]  # what can't be read is refused first
    source = config.source_file or train.main(config.source_training()).folder
    runs = []
    for target, dataset in zip(config.target, datasets):
        out = config.out / file_name(target) if config.out and len(datasets) > 1 else config.out
        runs += transfer(replace(config, target=(target,), out=out), dataset, source)
    from kapp.reporting import tables

    print(f"\n{tables.comparison(tables.rows(run.folder for run in runs))}", flush=True)
    return runs


def experiment(config: Config, dataset: Dataset, source: Path) -> dict:
    """What the run folder's config.json holds."""
    return {
        "recipe": "transfer",
        "backend": cli.backend(),
        "data_sha256": dataset.checksum,
        "source_sha256": checksum(pretrained.file(source)),
        **cli.as_json(config),
    }


def transfer(config: Config, dataset: Dataset, source: Path) -> list[Run]:
    """The runs from scratch (where that is wanted), of phase 1 and of phase 2 on one target."""
    name = config.model or config.source_name
    settings = experiment(config, dataset, source)
    folder = config.out or default_folder(
        "transfer", [name, config.source_name, *config.target], config.seed, settings
    )
    whole = Run.start(folder, settings, config.overwrite)
    head = Run.start(whole.phase1, settings, config.overwrite)
    scratch = None
    if config.scratch and config.model:
        scratch = train.main(config.on_labels(config.target[0], config.scratch_epochs))

    facts = {**settings, "model": name, "source": config.source_name, "dataset": config.target[0]}
    with whole.alone():
        if whole.finished:
            print(f"{name}: transferred already", flush=True)
        else:
            if not head.finished:
                learn(config, head, facts, dataset, source, phase=1)
            learn(config, whole, facts, dataset, head.folder, phase=2)
    from kapp.reporting import pages

    if not whole.report_file.is_file():
        head.write_report(pages.run_page(head))
        whole.write_report(pages.transfer_page(whole, head, scratch))
    print(f"report: {whole.report_file}", flush=True)
    return [*([scratch] if scratch else []), head, whole]


def trial(config: Config, folder: Path, epochs: int) -> Run:
    """Train phase 1 and phase 2 up to epoch `epochs` of the resolved `config`, whose source is trained and
    whose target is one, and score no test image; `main` would finish the run."""
    source = config.source_file
    assert source and config.head_epochs
    dataset = config.load(config.target[0])
    settings = experiment(config, dataset, source)
    facts = {**settings, "model": config.model or config.source_name, "dataset": config.target[0]}
    run = Run.start(folder, settings)
    head = Run.start(run.phase1, settings)
    with run.alone():
        learn(config, head, facts, dataset, source, phase=1, trial_epochs=config.head_epochs)
        learn(config, run, facts, dataset, head.folder, phase=2, trial_epochs=epochs)
    return run


def learn(
    config: Config,
    run: Run,
    facts: dict,
    dataset: Dataset,
    start: Path,
    phase: int,
    trial_epochs: int | None = None,
) -> None:
    """Train what `start` holds, the source or phase 1, on from where `run` stands, and score it; or only
    train it up to epoch `trial_epochs`."""
    cli.start_keras()
    from kapp.training import Learner, device, optimizers, precision
    from kapp.training.fit import finish, fit
    from kapp.training.transfer import HeadLearner, pays, set_trainable, with_new_head

    epochs = config.head_epochs if phase == 1 else config.epochs
    assert epochs  # resolved
    how = config.phase(phase)
    views = Views(how.shift, config.flip)
    precision.use(config.precision)
    config.spread()
    run.write_environment(device.environment(dataset.checksum))

    network = pretrained.load(start, dataset.image_shape, role="source")
    learner: Learner
    if phase == 1:
        parts = with_new_head(network, len(dataset.classes), config.head, config.seed)
        set_trainable(parts.body, False)
        learner = HeadLearner(parts, dataset, views, tabled=pays(parts, dataset, views, epochs))
    else:
        set_trainable(network, True)
        learner = Learner(network, dataset, views)
    steps = len(dataset.train) // how.batch_size
    learner.compile(
        optimizers.make(how, epochs=epochs, steps_per_epoch=steps, forgetful="schedule" in config.departures)
    )

    trained = sum(int(np.prod(variable.shape)) for variable in learner.trainable_variables)
    print(
        f"{facts['model']} on {facts['dataset']}, phase {phase}: {trained:,} weights, {epochs} epochs",
        flush=True,
    )
    fit(
        learner,
        dataset,
        run,
        epochs=trial_epochs or epochs,
        batch_size=how.batch_size,
        seed=config.seed,
        validate_every=config.validate_every,
    )
    if trial_epochs is not None:
        return
    this = {"phase": f"phase {phase}", "epochs": epochs, **asdict(how), "precision": precision.of(network)}
    finish(learner, dataset, run, {**facts, **this, "teachers": [], "objective": "cross_entropy"})


if __name__ == "__main__":
    cli.run(Config, main)
