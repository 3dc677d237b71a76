"""Search the settings of a training: learning rate, weight decay, dropout, temperature, widths.

    python -m kapp.recipes.sweep distill --teacher deep_resnet --student linear_3 --tuner bayesian --trials 30

searches the settings that no flag fixes, with KerasTuner, as Urban et al. 2016 did. The first word is the
recipe: train, distill or transfer.
Trials are scored on validation images. The best trial alone is scored on test images, once.
It leaves sweeps/NAME/ with report.md, best.json (settings for the recipe's --config), and a run folder per
trial. `sweep train --dataset shapes --scale small` takes a few minutes on two CPU cores.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from kapp import cli, models, records
from kapp.cluster import Cluster, Task
from kapp.errors import ConfigError, KappError, TrainingFailed, unknown
from kapp.models import mlp_budget
from kapp.models.mlp_budget import mlp_for_budget
from kapp.papers.distillation import distill_weight
from kapp.recipes import distill, train, transfer
from kapp.recipes.settings import ClusterOptions, OptionalInt, OptionalStr, check_min, with_values
from kapp.records import SearchRange, SweepConfig, Trial
from kapp.run_folder import default_folder as default_run_folder
from kapp.run_folder import identity_settings, is_finished, modification_times
from kapp.sweep_folder import BASELINES, Sweep, best_trial, default_folder
from kapp.tuning import search_space, trials
from kapp.tuning.oracle import FACTOR, Oracle, check_installed
from kapp.tuning.search import Search, TrialResult

TRIALS, SMALL_TRIALS = 30, 6
# Searched by default, where the network and the training have such a value.
SEARCHED = {
    "train": "learning_rate momentum weight_decay dropout".split(),
    "distill": "learning_rate momentum weight_decay dropout label_weight temperature".split(),
    "transfer": "probe_learning_rate finetune_learning_rate momentum weight_decay".split(),
}
VIEWS = "crop_scale hue saturation brightness random_erasing mixup cutmix".split()
SEARCHED_BY_NAME = {
    "train": ["layers", "widths", "label_smoothing", "ema", *VIEWS],
    "distill": ["distill_weight", "layers", "widths", "label_smoothing", "ema", *VIEWS],
    "transfer": ["label_smoothing", "ema", *VIEWS],
}
OptionalStrs = Annotated[
    tuple[str, ...] | None, tyro.conf.arg(metavar="[STR [STR ...]]", help_behavior_hint="")
]


@dataclass(frozen=True)
class SweepSettings:
    """How to search."""

    tuner: Literal["random", "bayesian", "hyperband"] = "bayesian"
    """How KerasTuner proposes trials. hyperband trains many for a few epochs and continues the best."""
    trials: OptionalInt = None
    """How many trials (default: 30; with --scale small: 6; of hyperband: as many as its brackets have)."""
    search: OptionalStrs = None
    """What to search, of learning_rate, momentum, weight_decay, dropout, label_weight, distill_weight,
    temperature, layers, widths, probe_learning_rate, finetune_learning_rate, crop_scale, hue, saturation,
    brightness, random_erasing, mixup, cutmix, label_smoothing, ema (default: what the recipe and its network
    have of the first six, the temperature and the last two rates, and not what a flag fixes)."""
    search_range: tuple[str, ...] = ()
    """Ranges other than the usual ones, such as learning_rate=1e-4:1e-1 (docs/sweeps.md)."""
    budget: OptionalStr = None
    """Parameters of networks with searched layers or widths, such as 10.5M (default: as many as the recipe's
    network has)."""
    include_default: bool = True
    """Trial 0 has the recipe's own settings, to compare."""
    score_best: bool = True
    """Finish the best trial as a run of its recipe, which scores the test images, for the only time."""

    def check(self) -> None:
        """Raises:
        ConfigError: with what was received and what is accepted.
        """
        check_installed()
        check_min(self, 1, "trials")
        if self.budget is not None:
            if not {"layers", "widths"} & set(self.search or ()):
                raise ConfigError("--budget goes with --search layers or widths.")
            search_space.parse_count(self.budget)


@dataclass(frozen=True)
class Config:
    """A recipe's own config, and how to search. Subclasses are those of the recipes."""

    recipe: Any = None
    sweep: SweepSettings = SweepSettings()
    cluster: ClusterOptions = ClusterOptions()

    subcommand: ClassVar[str]  # the recipe's name
    interrupted: ClassVar[str] = "The same command resumes from the last checkpoint of each trial."

    @property
    def network_flag(self) -> str:
        """The setting that names the network."""
        return "student" if self.subcommand == "distill" else "model"

    @property
    def settings(self) -> Any:
        """The recipe's resolved settings of the default trial."""
        own = {**dict.fromkeys(BASELINES, False), "out": None, "overwrite": False}
        return with_values(self.recipe.resolved(), own)

    def check(self) -> None:
        """Refuse wrong values before Keras is imported.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        self.recipe.compute.check_one_process(
            "Share the trials of a sweep instead: --workers on one machine, --scheduler on several."
        )
        self.recipe.check()
        self.sweep.check()
        self.cluster.check()
        settings = self.settings
        epochs, network = settings.hparams.epochs, getattr(settings, self.network_flag)
        if self.sweep.tuner == "hyperband" and epochs < FACTOR:
            raise ConfigError(
                f"--epochs is {epochs}, but hyperband trains many trials for a third of them: use at least "
                f"{FACTOR}, or another --tuner."
            )
        if settings.data.validation_images == 0:
            raise ConfigError("--validation-images is 0, but a sweep selects by validation images.")
        if self.subcommand == "transfer" and len(settings.target) != 1:
            raise ConfigError(f"--target is {' '.join(settings.target)}: a sweep has one.")
        if network is None:
            raise ConfigError(f"--{self.network_flag} is needed: the source doesn't name its network.")
        names = [*SEARCHED[self.subcommand], *SEARCHED_BY_NAME[self.subcommand]]
        searched = self.sweep.search or ()
        for name in searched:
            if name not in names:
                raise unknown(f"--search of {self.subcommand}", name, names)
            if why := trials.why_not_searchable(name, network, cli.flatten(settings), searched):
                raise ConfigError(f"--search {name}: {why}.")


@dataclass(frozen=True)
class Train(Config):
    recipe: train.Config = train.Config()
    subcommand: ClassVar[str] = "train"


@dataclass(frozen=True)
class Distill(Config):
    recipe: distill.Config = distill.Config(baseline=False)
    subcommand: ClassVar[str] = "distill"


@dataclass(frozen=True)
class Transfer(Config):
    recipe: transfer.Config = transfer.Config(target=("cifar100:class1",), scratch_baseline=False)
    subcommand: ClassVar[str] = "transfer"


CONFIGS = {"train": Train, "distill": Distill, "transfer": Transfer}
MODULES = {"train": train, "distill": distill, "transfer": transfer}


@dataclass(frozen=True)
class Plan:
    """A sweep with everything decided.

    Args:
        config: the content of sweep.json.
        folder: of the sweep.
        settings: the recipe's, of the default trial.
        network: of the default trial.
        budget: parameters of a network with searched layers or widths.
        inputs: numbers in an image, height x width x channels.
        classes: of the data set.
    """

    config: SweepConfig
    folder: Path
    settings: Any
    network: str
    budget: int
    inputs: int
    classes: int


def main(config: Config, arguments: Sequence[str] = ()) -> None:
    """Run the sweep of `config`, or resume it.

    Args:
        arguments: the command line that `config` comes from; its flags aren't searched.
    """
    options, plan = config.sweep, make_plan(config, arguments)
    count = options.trials
    if count is None and options.tuner != "hyperband":
        count = SMALL_TRIALS if config.recipe.scale == "small" else TRIALS
    with Sweep.open(plan.folder, plan.config, config.recipe.output.overwrite) as sweep:
        is_complete, best = sweep.is_complete(count), best_trial(sweep.trials())
        values = ", ".join(each.name for each in plan.config.space)
        what = "already complete, skipping" if is_complete else f"of {values}"
        print(f"sweep: {plan.folder}, {what}", flush=True)
        if options.tuner != "hyperband":
            sweep.delete_weights()  # of the latest trial, where a process was killed before it did
        if not is_complete or (options.score_best and not (best and sweep.is_best_finished(best))):
            with config.cluster.open(plan.folder) as cluster:
                if not is_complete:
                    run_search(config, plan, sweep, cluster, count)
                finish(config, sweep, cluster)
        write_report(sweep)


def run_search(config: Config, plan: Plan, sweep: Sweep, cluster: Cluster, count: int | None) -> None:
    """Train what the trials need, then the trials: `count` in all, None: as many as hyperband has."""
    settings = with_trained(plan.settings, cluster)
    if isinstance(settings, distill.Settings):
        dataset = settings.load()
        distill.count_overlap(settings.teacher_names, settings.teacher_files, dataset, warn=True)
    plan = replace(plan, settings=settings)

    def make_task(trial: Trial) -> Task:
        return trial_task(config, plan, trial, sweep.run_folder(trial.run))

    search = Search(sweep, make_oracle(plan, count), make_task)
    search.run(cluster)
    if len(search.trials) < (count or 0):
        print(f"the tuner has no more proposals than these {len(search.trials)} trials", flush=True)


def make_plan(config: Config, arguments: Sequence[str]) -> Plan:
    """The sweep that `config` describes.

    Raises:
        ConfigError: nothing is left to search, or a value is fixed and searched; or as `DataOptions.load` and
            the recipe's `Settings.check_data`.
    """
    options, settings, flag = config.sweep, config.settings, config.network_flag
    space = searched(config, arguments)
    data_name = settings.target[0] if config.subcommand == "transfer" else settings.dataset
    if isinstance(settings, distill.Settings):  # which may also use images without a label
        dataset = settings.load()
    else:
        dataset = settings.data.load(data_name, settings.hparams.batch_size)
    settings.check_data(dataset)
    inputs, classes = dataset.train.images[0].size, len(dataset.classes)
    network, width = getattr(settings, flag), cli.flatten(settings)["width"]
    if options.budget is None:
        budget = trials.mlp_parameters(network, width, inputs, classes)
    else:  # the default trial has this budget, too
        budget = search_space.parse_count(options.budget)
        network = mlp_for_budget(
            [float(units) for units in trials.hidden_units(network)], budget, inputs, classes
        )
        settings = with_values(settings, {flag: network, "width": 1.0})
    sweep_config = SweepConfig(
        recipe=config.subcommand,
        backend=cli.backend(),
        data_sha256=dataset.checksum,
        tuner=options.tuner,
        include_default=options.include_default,
        space=space,
        budget=budget if {"layers", "width_2"} & {each.name for each in space} else None,
        settings=identity_settings(cli.as_json(settings)),
    )
    out = config.recipe.output.out
    folder = out or default_folder([network, data_name], settings.seed, sweep_config)
    return Plan(sweep_config, folder, settings, network, budget, inputs, classes)


def searched(config: Config, arguments: Sequence[str]) -> tuple[SearchRange, ...]:
    """What is searched, and in which ranges.

    Raises:
        ConfigError: nothing is left to search, or a value is fixed and searched.
    """
    settings, search = config.settings, config.sweep.search
    network, values = getattr(settings, config.network_flag), cli.flatten(settings)
    fixed = {word.split("=")[0][2:].replace("-", "_") for word in arguments if word.startswith("--")}
    for name in search or ():
        if name in fixed:
            raise ConfigError(
                f"--{name.replace('_', '-')} fixes what --search {name} searches: leave one out."
            )
    names = search or [
        name
        for name in SEARCHED[config.subcommand]
        if name not in fixed and not trials.why_not_searchable(name, network, values)
    ]
    if not names:
        raise ConfigError("nothing is left to search: every value has its flag.")
    hidden_layers = len(trials.hidden_units(network))
    return search_space.ranges(names, config.sweep.search_range, settings.hparams.optimizer, hidden_layers)


def make_oracle(plan: Plan, count: int | None) -> Oracle:
    """The oracle that proposes `count` trials; None: as many as hyperband has."""
    default = trials.default_values(plan.config.space, plan.network, cli.flatten(plan.settings))
    return Oracle(
        plan.config.tuner,
        plan.config.space,
        default=default if plan.config.include_default else None,
        seed=plan.settings.seed,
        max_trials=count,
        epochs=plan.settings.hparams.epochs,
        failed_score=1 / plan.classes,  # that of guessing
    )


def with_trained(settings: Any, cluster: Cluster) -> Any:
    """`settings` with run folders in place of the names of teachers or a source.

    The recipe `train` trains those without a finished run, on `cluster`.
    """
    if isinstance(settings, distill.Settings):
        found = [
            name if distill.is_on_disk(name) else str(find_or_train(settings.teacher_settings(name), cluster))
            for name in settings.teacher
        ]
        # No teacher is left to train: the runs of the trials have no epochs of one either.
        training = replace(settings.teacher_training, teacher_epochs=())
        return replace(settings, teacher=tuple(found), teacher_training=training)
    if isinstance(settings, transfer.Settings) and transfer.source_file(settings.source) is None:
        return replace(settings, source=str(find_or_train(settings.source_settings(), cluster)))
    return settings


def find_or_train(settings: train.Settings, cluster: Cluster) -> Path:
    """The folder of the finished run of `settings`, which is trained on `cluster` if it doesn't exist."""
    dataset = settings.data.load(settings.dataset, settings.hparams.batch_size)
    config = settings.run_config(dataset)
    folder = default_run_folder(config, [settings.model, settings.dataset])
    if not is_finished(folder, config):
        arguments = {"recipe": "train", "settings": cli.as_json(settings)}
        name = f"training of {settings.model}"
        wait_for(Task(name, run_recipe, arguments, lambda: modification_times(folder)), cluster)
    return folder


def trial_task(config: Config, plan: Plan, trial: Trial, folder: Path) -> Task:
    """The task that trains `trial` in `folder`. Records its network and settings here, not in the worker.

    Raises:
        ConfigError: there is no such network, such as one with too many layers for the budget.
    """
    network, settings = plan.network, plan.settings
    values = ", ".join(f"{name} {value:.3g}" for name, value in trial.values.items())
    if not trial.default:
        network, changes = trials.network_and_settings(
            trial.values, network, plan.budget, plan.inputs, plan.classes
        )
        if "label_weight" in changes and config.recipe.distillation.distill_weight is None:
            # As the recipe's own default; `changes` come last, where both weights are searched.
            changes = {"distill_weight": distill_weight(changes["label_weight"]), **changes}
        settings = with_values(settings, {**changes, config.network_flag: network})
    trial.network, trial.config = network, cli.as_json(settings)
    if mlp_budget.is_linear(models.get_spec(network).layers):
        width = cli.flatten(settings)["width"]
        trial.parameters = trials.mlp_parameters(network, width, plan.inputs, plan.classes)
    name = f"trial {trial.number}"
    arguments = {
        "number": trial.number,
        "title": f"{name}: {'the default' if trial.default else values}",
        "recipe": config.subcommand,
        "settings": trial.config,
        "folder": str(folder),
        "epochs": trial.epochs,
        "data_sha256": plan.config.data_sha256,
    }
    return Task(name, train_trial, arguments, lambda: modification_times(folder))


def train_trial(
    number: int,
    title: str,
    recipe: str,
    settings: dict[str, Any],
    folder: str,
    epochs: int,
    data_sha256: str,
) -> dict[str, Any]:
    """Train trial `number` up to `epochs` in its run folder; called in a worker.

    Args:
        title: printed first.
        settings: of the recipe, by the names of their flags.
        data_sha256: the checksum of the command's data.

    Returns:
        The `TrialResult` as JSON values.

    Raises:
        KappError: this worker has other data; and as the recipe.
    """
    print(title, flush=True)
    resolved = parse(recipe, {**settings, "out": folder}).resolved()
    try:
        run = MODULES[recipe].run(resolved, stop_epoch=epochs)
        if run.config.data_sha256 != data_sha256:
            raise KappError("the data of this worker differs from that of the command.")
        keep_last = "last_epoch" in (settings.get("code_variants") or ())
        result = trials.read_result(number, run, epochs, keep_last)
    except TrainingFailed as error:
        result = TrialResult(number, "failed", message=str(error))
    return records.to_json(result)


def run_recipe(recipe: str, settings: dict[str, Any]) -> None:
    """Run `recipe` as its command does; called in a worker.

    Args:
        settings: by the names of their flags.
    """
    config = parse(recipe, settings)
    config.check()
    MODULES[recipe].main(config)


def parse(recipe: str, settings: dict[str, Any]) -> Any:
    """The config of `recipe` with `settings`, by the names of their flags."""
    config_type = MODULES[recipe].Config
    return cli.parse(config_type, cli.as_flags(config_type, settings, "the task"))


def wait_for(task: Task, cluster: Cluster) -> None:
    """Run `task` alone.

    Raises:
        KappError: it failed.
    """
    cluster.submit(task)
    for result in cluster.completed():
        if result.error is not None:
            raise KappError(f"{result.task}: {result.error}")


def finish(config: Config, sweep: Sweep, cluster: Cluster) -> None:
    """Write the best trial's settings; with --score-best, finish that trial's run."""
    best = best_trial(sweep.trials())
    if best is None:
        return
    values = cli.flatten(config.recipe)
    baselines = {name: True for name in BASELINES if values.get(name)}
    sweep.write_best({**best.config, **baselines})
    if config.sweep.score_best and not sweep.is_best_finished(best):
        sweep.copy_to_best(best, with_run=not baselines)  # a run with a baseline is another run
        place = {"out": str(sweep.best_folder), "data_dir": values["data_dir"]}
        arguments = {"recipe": config.subcommand, "settings": {**best.config, **baselines, **place}}
        folder = sweep.best_folder
        wait_for(Task("the best trial", run_recipe, arguments, lambda: modification_times(folder)), cluster)


def write_report(sweep: Sweep) -> None:
    """Write report.md and print the best trial.

    Raises:
        KappError: no trial finished.
    """
    from kapp.reporting import sweep_report

    sweep_report.write(sweep)
    best = best_trial(sweep.trials())
    if best is None:
        raise KappError(f"no trial finished: {sweep.report_file} has the reasons.")
    print(f"best: trial {best.number}, {best.score:.1%} of validation images: {sweep.best_file}")
    print(f"report: {sweep.report_file}", flush=True)


def command(arguments: Sequence[str]) -> None:
    """Run the command line: the recipe's name, then its flags and the sweep's."""
    name, *flags = arguments or ["--help"]
    if name in ("-h", "--help"):
        with cli.exit_on_broken_pipe():
            print(f"usage: python -m kapp.recipes.sweep {{{','.join(CONFIGS)}}} ...\n\n{__doc__}")
            print("sweep RECIPE --help lists its flags.")
        return
    if name not in CONFIGS:
        print(f"kapp: {unknown('recipe to sweep', name, CONFIGS)}", file=sys.stderr)
        sys.exit(2)
    cli.run(CONFIGS[name], lambda config: main(config, flags), flags)


if __name__ == "__main__":
    command(sys.argv[1:])
