"""Train a network on labels.

    python -m kapp.recipes.train --model linear_3 --dataset cifar10

leaves runs/train-linear_3-cifar10-s0-.../ with result.json, model.keras and report.md. Paper D, table 3:
55.12% for linear_3 after 75 epochs; paper A, table 3: 83.28% for all_cnn_c after 350. On two CPU cores
--dataset shapes --quick takes under a minute.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from kapp import cli, models, processes
from kapp.data import Dataset, sources
from kapp.papers import all_convolutional as paper_a
from kapp.papers import deep_and_convolutional as paper_d
from kapp.recipes.settings import OnLabels, filled
from kapp.runs import Run, default_folder

QUICK = {"epochs": 6, "width": 0.125, "limit_train": 4000}


@dataclass(frozen=True)
class Config(OnLabels):
    dataset: str = "cifar10"
    """cifar10; cifar100, cifar100:class1, cifar100:class2 or cifar100:CLASS,CLASS,...; shapes, shapes:near,
    shapes:far; tfds:NAME; npz:PATH; folder:PATH[@SIZE]."""
    model: str = "linear_3"
    """A network of the catalogue (python -m kapp.models), or a notation such as 512fc^2-10fc."""

    def check(self) -> None:
        super().check()
        sources.check(self.dataset)
        self.check_network(self.model)
        self.resolved().check_together()

    def resolved(self) -> "Config":
        """The same with nothing left open."""
        full = {"epochs": paper_epochs(self.model), "width": 1.0}
        config = replace(self, **filled(self, QUICK if self.quick else {}, full))
        assert config.epochs
        return replace(config, **filled(config, self.as_its_paper(self.model, config.epochs)))


def paper_epochs(model: str) -> int:
    """How long its paper trains `model` on labels."""
    return paper_a.EPOCHS if models.find(model).paper == "A" else paper_d.epochs(model)


def experiment(config: Config, dataset: Dataset) -> dict:
    """What the run folder's config.json holds."""
    return {
        "recipe": "train",
        "backend": cli.backend(),
        "data_sha256": dataset.checksum,
        **cli.as_json(config),
    }


def folder_of(config: Config, dataset: Dataset) -> Path:
    """Where the run of the resolved `config` lies."""
    settings = experiment(config, dataset)
    return config.out or default_folder("train", [config.model, config.dataset], config.seed, settings)


def main(config: Config) -> Run:
    config = config.resolved()
    config.join()
    dataset = config.load(config.dataset)
    settings = experiment(config, dataset)
    folder = folder_of(config, dataset)
    processes.first_does(lambda: Run.start(folder, settings, config.overwrite))
    run = Run(folder)
    processes.all_do(lambda: run.refuse_another(settings))  # all were given the same command, and data
    with run.alone() if processes.is_first() else nullcontext():
        if run.finished:
            print(f"{config.model}: finished already", flush=True)
        else:
            learn(config, run, settings, dataset)
    from kapp.reporting import pages

    if processes.is_first() and not run.report_file.is_file():
        run.write_report(pages.run_page(run))
    print(f"{config.model}: {run.result['test_accuracy']:.1%} of test images, {run.report_file}", flush=True)
    return run


def trial(config: Config, folder: Path, epochs: int) -> Run:
    """Train up to epoch `epochs` of the resolved `config` and score no test image; `main` would finish it."""
    dataset = config.load(config.dataset)
    settings = experiment(config, dataset)
    run = Run.start(folder, settings)
    with run.alone():
        learn(config, run, settings, dataset, trial_epochs=epochs)
    return run


def learn(
    config: Config, run: Run, settings: dict, dataset: Dataset, trial_epochs: int | None = None
) -> None:
    """Train the network that `config` describes, on from where `run` stands, and score it; or only train it
    up to epoch `trial_epochs`."""
    cli.start_keras()
    from kapp.training import Learner, device, optimizers, precision
    from kapp.training.fit import finish, fit

    assert config.epochs  # resolved
    how = config.training
    dtype = precision.use(config.precision)
    config.spread()
    processes.first_does(lambda: run.write_environment(device.environment(dataset.checksum)))

    network = config.build(config.model, dataset)
    learner = Learner(network, dataset, config.views)
    learner.compile(
        optimizers.make(
            how,
            epochs=config.epochs,
            steps_per_epoch=len(dataset.train) // how.batch_size,
            forgetful="schedule" in config.departures,
        )
    )

    print(
        f"{config.model}: {network.count_params():,} parameters, {config.epochs} epochs on labels", flush=True
    )
    fit(
        learner,
        dataset,
        run,
        epochs=trial_epochs or config.epochs,
        batch_size=how.batch_size,
        seed=config.seed,
        validate_every=config.validate_every,
    )
    if trial_epochs is not None:
        return
    finish(
        learner, dataset, run, {**settings, "teachers": [], "objective": "cross_entropy", "precision": dtype}
    )


if __name__ == "__main__":
    cli.run(Config, main)
