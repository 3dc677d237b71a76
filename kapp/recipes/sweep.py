"""Search the settings of a training: which learning rate, weight decay, dropout, temperature, widths?

    python -m kapp.recipes.sweep distill --teacher deep_resnet --student linear_3 --tuner bayesian --trials 30

searches what no flag fixes, with KerasTuner, as Urban et al. 2016 did. The first word names the recipe:
train, distill or transfer. Trials are chosen by validation images; the best alone is scored on test images,
once. Leaves sweeps/NAME/ with a run folder a trial, best.json, which the recipe runs as it is (--config), and
report.md. On two CPU cores `sweep train --dataset shapes --quick` takes a few minutes.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from kapp import cli, models
from kapp.errors import Failure, Untrainable, WrongValue, unknown
from kapp.files import make_folder, write_text
from kapp.models.budget import linear
from kapp.recipes import distill, train, transfer
from kapp.recipes.settings import OpenCount, at_least
from kapp.runs import Run, experiment, is_finished
from kapp.sweeps import BESIDE, Sweep, Trial, best, default_folder, digest
from kapp.training import pretrained
from kapp.tuning import space, trials, workers
from kapp.tuning.oracle import FACTOR, Oracle, check_installed
from kapp.tuning.search import Outcome, Search

TRIALS, QUICK_TRIALS = 30, 6
# What is searched by default, where the network and the training have it; the rest when it is named.
SEARCHED = {
    "train": "learning_rate momentum weight_decay dropout".split(),
    "distill": "learning_rate momentum weight_decay dropout label_weight temperature".split(),
    "transfer": "head_learning_rate whole_learning_rate momentum weight_decay".split(),
}
NAMED = {"train": ["layers", "widths"], "distill": ["layers", "widths"], "transfer": []}
OpenText = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
OpenTexts = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[STR [STR ...]]", help_behavior_hint="")]


@dataclass(frozen=True)
class Sweeping:
    """What a sweep has beside its recipe's settings."""

    tuner: Literal["random", "bayesian", "hyperband"] = "bayesian"
    """How KerasTuner chooses what to try next; hyperband trains many a little and the best of them on."""
    trials: OpenCount = None
    """How many (default: 30; of hyperband: as many as its brackets have)."""
    search: OpenTexts = None
    """What to search, of learning_rate, momentum, weight_decay, dropout, label_weight, temperature, layers,
    widths, head_learning_rate, whole_learning_rate (default: what the recipe and its network have, but for
    layers and widths, and for what a flag fixes)."""
    range: tuple[str, ...] = ()
    """Other ranges than the usual, such as learning_rate=1e-4:1e-1 (docs/sweeps.md)."""
    budget: OpenText = None
    """Parameters of the networks that layers and widths make, such as 10.5M (default: as many as the network
    has)."""
    include_default: bool = True
    """Trial 0 has the recipe's own settings, to compare with."""
    test_best: bool = True
    """Finish the best trial as a run of its recipe, which scores the test images, for the only time."""
    workers: int = 1
    """Processes of this machine that train trials at once; with --oracle also 0."""
    oracle: OpenText = None
    """HOST:PORT, where other machines' workers find this one (default: only this machine's do)."""
    worker: OpenText = None
    """Be a worker, of that name, of the oracle at --oracle."""
    open_to_network: bool = False
    """Let --oracle be an address that other machines reach; it asks nobody who they are."""

    recipe: ClassVar[str]
    module: ClassVar[Any]
    field: ClassVar[str]  # the setting that names the network which is trained

    def base(self) -> Any:
        """The recipe's own config, with nothing left open and nothing beside the training itself."""
        held = {field.name: getattr(self, field.name) for field in fields(self.module.Config)}
        config = self.module.Config(**held).resolved()
        alone = {name: False for name in BESIDE if hasattr(config, name)}
        return replace(config, out=None, overwrite=False, quick=False, **alone)

    def check(self) -> None:
        self.refuse_several_processes(  # type: ignore[attr-defined]
            "Those of a sweep share its trials: --workers on one machine, --oracle on several."
        )
        super().check()  # type: ignore[misc]
        check_installed()
        at_least(self, 1, "trials")
        at_least(self, 0 if self.oracle else 1, "workers")
        workers.address(self.oracle, self.open_to_network)
        if self.worker is not None and self.oracle is None:
            raise WrongValue("--worker needs --oracle HOST:PORT, where the command without --worker runs.")
        base = self.base()
        if self.tuner == "hyperband" and base.epochs < FACTOR:
            raise WrongValue(
                f"--epochs is {base.epochs}, but hyperband trains many trials for a third of them: at least "
                f"{FACTOR}, or another --tuner."
            )
        if base.validation == 0:
            raise WrongValue("--validation is 0, but a sweep chooses by validation images: leave it out.")
        if self.recipe == "transfer" and len(base.target) != 1:
            raise WrongValue(f"--target is {' '.join(base.target)}: a sweep has one.")
        if getattr(base, self.field) is None:
            raise WrongValue(f"--{self.field} is needed: the source doesn't say which network it is.")
        known = [*SEARCHED[self.recipe], *NAMED[self.recipe]]
        for name in self.search or ():
            if name not in known:
                raise unknown(f"--search of {self.recipe}", name, known)
            if why := trials.why_not(name, base, getattr(base, self.field)):
                raise WrongValue(f"--search {name}: {why}.")
        if self.budget is not None and not {"layers", "widths"} & set(self.search or ()):
            raise WrongValue("--budget goes with --search layers or widths.")
        if self.budget is not None:
            space.amount(self.budget)


@dataclass(frozen=True)
class Train(Sweeping, train.Config):
    recipe: ClassVar[str] = "train"
    module: ClassVar[Any] = train
    field: ClassVar[str] = "model"
    word: ClassVar[str] = " train"


@dataclass(frozen=True)
class Distill(Sweeping, distill.Config):
    recipe: ClassVar[str] = "distill"
    module: ClassVar[Any] = distill
    field: ClassVar[str] = "student"
    word: ClassVar[str] = " distill"
    baseline: bool = False
    """Train the best student's network on labels as well, when it is finished."""


@dataclass(frozen=True)
class Transfer(Sweeping, transfer.Config):
    recipe: ClassVar[str] = "transfer"
    module: ClassVar[Any] = transfer
    field: ClassVar[str] = "model"
    word: ClassVar[str] = " transfer"
    target: tuple[str, ...] = ("cifar100:class1",)
    """A small data set, named as --dataset of the other recipes is."""
    scratch: bool = False
    """Train the network on the target from scratch as well, when the best is finished."""


RECIPES = {"train": Train, "distill": Distill, "transfer": Transfer}


def main(config: Any, arguments: Sequence[str] = ()) -> None:
    """Search as `config` says; `arguments` is the command line that it comes from."""
    base = config.base()
    network = getattr(base, config.field)
    ranges = searched(config, base, arguments)
    of = base.target[0] if config.recipe == "transfer" else base.dataset
    dataset = base.load(of)
    inputs, classes = dataset.train.images[0].size, len(dataset.classes)
    parameters = trials.parameter_budget(
        space.amount(config.budget) if config.budget else None, base, network, inputs, classes
    )
    if config.budget:  # the recipe's own, too: trials are of one size
        units = [float(count) for count in trials.hidden_units(network)]
        network = linear(units, parameters, inputs, classes)
        base = replace(base, **{config.field: network, "width": 1.0})
    settings = {
        "recipe": config.recipe,
        "backend": cli.backend(),
        "data_sha256": dataset.checksum,
        "tuner": config.tuner,
        "include_default": config.include_default,
        "space": [asdict(each) for each in ranges],
        "budget": parameters if {"layers", "width_2"} & {each.name for each in ranges} else None,
        "config": experiment(cli.as_json(base)),
    }
    folder = config.out or default_folder(config.recipe, [network, of], base.seed, settings)
    at = workers.address(config.oracle, config.open_to_network)
    if config.worker is not None:
        base = with_trained(base, folder)

        def settled(trial: Trial) -> Any:
            if trial.default:
                return base
            return trials.settled(base, config.field, trial.values, parameters, inputs, classes)

        def validated(run: Run, trial: Trial, chosen: Any) -> Outcome:
            return trials.validated(run, trial.epochs, chosen, getattr(chosen, config.field), inputs, classes)

        work = trainer(config, folder, settled, validated)
        workers.work(config.worker, at, digest(settings), work)
        return

    count = config.trials or (QUICK_TRIALS if config.quick else TRIALS)
    count = config.trials if config.tuner == "hyperband" else count
    sweep = Sweep.start(folder, settings, config.overwrite)
    with sweep.alone():
        if sweep.searched(count):
            print(f"sweep: {folder}, searched already", flush=True)
        else:
            print(f"sweep: {folder}, of {', '.join(each.name for each in ranges)}", flush=True)
            with_trained(base, folder)
            oracle = Oracle(
                config.tuner,
                ranges,
                default=trials.default_values(ranges, base, network) if config.include_default else None,
                seed=base.seed,
                trials=count,
                epochs=base.epochs,
                failed_score=1 / classes,  # what a dead network has
            )
            search = Search(
                sweep, oracle, epochs=base.epochs, trials=count, include_default=config.include_default
            )
            if not search.ended:
                hand_out(config, search, sweep, at, arguments)
            if len(search.trials) < (count or 0):
                print(f"the tuner finds no more to try than these {len(search.trials)} trials", flush=True)
        finish(config, sweep)


def searched(config: Any, base: Any, arguments: Sequence[str]) -> tuple[space.Range, ...]:
    """What is searched, in which ranges.

    Raises:
        WrongValue: nothing is left to search, or it's both fixed and searched.
    """
    network = getattr(base, config.field)
    fixed = {word.split("=")[0][2:].replace("-", "_") for word in arguments if word.startswith("--")}
    for name in config.search or ():
        if name in fixed:
            raise WrongValue(
                f"--{name.replace('_', '-')} fixes what --search {name} searches: leave one out."
            )
    names = config.search or [
        name
        for name in SEARCHED[config.recipe]
        if name not in fixed and not trials.why_not(name, base, network)
    ]
    if not names:
        raise WrongValue("nothing is left to search: every value has its flag.")
    return space.ranges(names, config.range, base.optimizer, len(trials.hidden_units(network)))


def with_trained(base: Any, folder: Path) -> Any:
    """`base` with the run folders of what is trained before the trials, teachers or a source, in place of
    names. The recipe `train` trains what has no finished run yet."""
    if isinstance(base, distill.Config):
        known = models.names()
        found = [
            teacher if pretrained.is_file(teacher, known) else trained(base.teacher_training(teacher), folder)
            for teacher in base.teacher
        ]
        return replace(base, teacher=tuple(map(str, found)))
    if isinstance(base, transfer.Config) and base.source_file is None:
        return replace(base, source=str(trained(base.source_training(), folder)))
    return base


def trained(config: train.Config, folder: Path) -> Path:
    """The run folder of `config`, trained by now."""
    config = config.resolved()
    dataset = config.load(config.dataset)
    out = train.folder_of(config, dataset)
    if not is_finished(out, train.experiment(config, dataset)):
        file = folder / "teachers" / f"{config.model}.json"
        make_folder(file.parent)
        write_text(file, json.dumps(cli.as_json(replace(config, quick=False)), indent=2) + "\n")
        run_recipe("train", "--config", file)
    return out


def hand_out(
    config: Any, search: Search, sweep: Sweep, at: tuple[str, int], arguments: Sequence[str]
) -> None:
    """Have the trials trained by workers of this machine and, with --oracle, by those that come."""
    server = workers.Server(search, at, digest(sweep.settings))
    if config.oracle:
        print(f"workers: the same command with --worker NAME; the oracle is at {server.address}", flush=True)
    here = ["--oracle", server.address, "--out", str(sweep.folder)]
    command = [sys.executable, "-m", "kapp.recipes.sweep", config.recipe, *arguments, *here]
    try:
        workers.local(command, config.workers, search, sweep.folder / "workers")
    finally:
        server.close()


def trainer(
    config: Any,
    folder: Path,
    settled: Callable[[Trial], Any],
    validated: Callable[[Run, Trial, Any], Outcome],
) -> Callable[[Trial], Outcome]:
    """What a worker does with a trial; `settled` makes its config, `validated` reads its score."""

    def train_trial(trial: Trial) -> Outcome:
        how = ", ".join(f"{name} {value:.3g}" for name, value in trial.values.items())
        print(f"trial {trial.number}: {'the default' if trial.default else how}", flush=True)
        try:
            chosen = settled(trial)
        except WrongValue as error:  # no network of so many layers has so few parameters, say
            return Outcome("failed", message=str(error))
        try:
            run = config.module.trial(chosen, folder / "trials" / f"{trial.run:03d}", trial.epochs)
            return validated(run, trial, chosen)
        except Untrainable as error:
            return Outcome("failed", message=str(error), config=cli.as_json(chosen))
        except Exception as error:
            known = isinstance(error, Failure | WrongValue)
            first = (str(error) or repr(error)).splitlines()[0][:300]
            return Outcome("broken", message=first if known else f"{type(error).__name__}: {first}")
        finally:
            trials.clear()

    return train_trial


def finish(config: Any, sweep: Sweep) -> None:
    """Write the best trial's config and the report; unless told otherwise, finish the trial as a run of its
    recipe: in a copy of its folder, where that holds all of the training."""
    leader = best(sweep.trials())
    if leader is not None:
        wanted = {name: True for name in BESIDE if getattr(config, name, False)}
        sweep.write_best({**leader.config, **wanted})
        if config.test_best and not sweep.best_is_run(leader):
            sweep.copy_to_best(leader, whole=not wanted)
            data_dir = ["--data-dir", config.data_dir] if config.data_dir else []
            run_recipe(config.recipe, "--config", sweep.best_file, "--out", sweep.best_folder, *data_dir)
    from kapp.reporting import sweep_page

    sweep.write_report(sweep_page.sweep_page(sweep))
    if leader is None:
        raise Failure(f"no trial finished; why, says {sweep.report_file}.")
    print(f"best: trial {leader.number}, {leader.score:.1%} of validation images: {sweep.best_file}")
    print(f"report: {sweep.report_file}", flush=True)


def run_recipe(recipe: str, *arguments: object) -> None:
    """Run a recipe's command as a process of its own, which says itself what goes wrong.

    Raises:
        SystemExit: with its status, where that isn't 0.
    """
    done = subprocess.run([sys.executable, "-m", f"kapp.recipes.{recipe}", *map(str, arguments)])
    if done.returncode:
        sys.exit(done.returncode)


def command(arguments: Sequence[str]) -> None:
    """The recipe's name, then its flags and the sweep's."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        with cli.while_read():
            print(f"usage: python -m kapp.recipes.sweep {{{','.join(RECIPES)}}} ...\n\n{__doc__}")
            print("sweep RECIPE --help lists its flags.")
        return
    if name not in RECIPES:
        print(f"kapp: {unknown('recipe to sweep', name, RECIPES)}", file=sys.stderr)
        sys.exit(2)
    cli.run(RECIPES[name], lambda config: main(config, rest), rest)


if __name__ == "__main__":
    command(sys.argv[1:])
