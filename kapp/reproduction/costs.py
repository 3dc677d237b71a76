"""How long runs take, from measured rates."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kapp import cli, records
from kapp.cluster import Cluster, Task
from kapp.data import Augmentation, Dataset
from kapp.fileio import is_file
from kapp.recipes import distill, train, transfer
from kapp.reproduction import rates
from kapp.reproduction.paper_rows import RunSettings
from kapp.reproduction.plan import PlannedRun, data_name, load_dataset
from kapp.reproduction.rates import Rates
from kapp.run_folder import Run

RatesOf = Callable[[train.Settings], Rates | None]


@dataclass
class TeacherViews:
    """How many views per image a teacher has predicted for its students, by seed: each is predicted once."""

    epochs: dict[tuple, dict[int, int]] = field(default_factory=dict)

    def new(self, settings: distill.Settings, teacher: train.Settings) -> float:
        """The number of views per image that this student is the first to need; counts them.

        Students of one seed have the same views.
        """
        augmentation = settings.augmentation
        seeds = self.epochs.setdefault((teacher, augmentation), {})
        before = sum(seeds.values())
        seeds[settings.seed] = max(settings.hparams.epochs, seeds.get(settings.seed, 0))
        return distinct_views(sum(seeds.values()), augmentation) - distinct_views(before, augmentation)


def distinct_views(epochs: int, augmentation: Augmentation) -> float:
    """The expected number of different views of an image in `epochs` epochs.

    Example:

    >>> round(distinct_views(60, Augmentation()), 1)  # of 162
    50.3
    """
    return augmentation.count * (1 - (1 - 1 / augmentation.count) ** epochs)


def measure_missing(runs: Iterable[PlannedRun], workers: Cluster, device: str) -> None:
    """Measure the rates that the costs of `runs` depend on, where they aren't known yet.

    Args:
        workers: what measures them.
        device: as for `rates.key`.
    """
    unknown: dict[str, train.Settings] = {}
    for settings in (each for run in runs for each in trained_networks(run.settings)):
        key = rates.key(settings, load_dataset(settings.dataset, settings.data), device)
        if rates.read(key, settings.data.data_dir) is None:
            unknown.setdefault(json.dumps(key), settings)
    if not unknown:
        return
    print(f"measuring the speed of {len(unknown)} networks, once on this machine", flush=True)
    for i, settings in enumerate(unknown.values(), start=1):
        name = f"speed {i} of {len(unknown)}: {settings.model}, width {settings.network.width:g}"
        workers.submit(Task(name, rates.measure, {"config": cli.as_json(settings), "device": device}))
    data_dir = next(iter(unknown.values())).data.data_dir  # of all
    for result in workers.completed():
        words = result.error
        if words is None:
            measured = records.from_json(Rates, result.value, result.task)
            rates.write(measured, data_dir)
            words = f"{measured.train:,.0f} images/s in training, {measured.score:,.0f} in prediction"
        print(f"{result.task}: {words}", flush=True)


def estimate(runs: Iterable[PlannedRun], rates_of: RatesOf) -> None:
    """Fill in `seconds` and `seconds_left` of each of `runs`, which are in the order in which they run.

    Args:
        rates_of: the rates of a training on labels; None: unknown, then its runs have no estimate.
    """
    views = TeacherViews()
    for planned in runs:
        own = rates_of(rates.supervised(planned.settings))
        planned.images_per_second = own.train if own else None
        if any(rates_of(each) is None for each in trained_networks(planned.settings)):
            continue
        planned.seconds = seconds(planned, rates_of, views)
        planned.seconds_left = 0.0 if planned.is_finished else planned.seconds * (1 - fraction_done(planned))


def known(settings: train.Settings, device: str) -> Rates | None:
    """The rates of a training on labels, where they were measured."""
    dataset = load_dataset(settings.dataset, settings.data)
    return rates.read(rates.key(settings, dataset, device), settings.data.data_dir)


def trained_networks(settings: RunSettings) -> list[train.Settings]:
    """The trainings on labels whose rates decide how long the run takes."""
    networks = [rates.supervised(settings)]
    if isinstance(settings, distill.Settings):
        networks += [settings.teacher_settings(name) for name in settings.teacher]
    return networks


def seconds(planned: PlannedRun, rates_of: RatesOf, views: TeacherViews) -> float:
    """The estimated seconds of one run from nothing, without those that it needs."""
    settings = planned.settings
    own = rates_of(rates.supervised(settings))
    assert own is not None  # `estimate` has looked
    dataset, hparams = load_dataset(data_name(settings), settings.data), settings.hparams
    total = _training(hparams.epochs, hparams.batch_size, dataset, own)
    if isinstance(settings, transfer.Settings):
        # The features of the linear probe are computed once for each view; its own steps take seconds.
        views_of_probe = settings.linear_probe[1].count
        probed = views_of_probe * len(dataset.train) + _selection_images(dataset) + _scored_images(dataset)
        total += own.start + probed / own.score
    if isinstance(settings, distill.Settings):
        for name in settings.teacher:
            teacher = settings.teacher_settings(name)
            images = _teacher_images(settings, teacher, dataset, views)
            total += images / rates_of(teacher).score  # type: ignore[union-attr]
    return total


def _teacher_images(
    settings: distill.Settings, teacher: train.Settings, dataset: Dataset, views: TeacherViews
) -> float:
    """How many images the teacher predicts for this student."""
    if settings.distillation.teacher_logits == "live":
        return settings.hparams.epochs * (len(dataset.train) + _selection_images(dataset))
    return views.new(settings, teacher) * len(dataset.train) + _selection_images(dataset)


def fraction_done(planned: PlannedRun) -> float:
    """The fraction of the epochs that an unfinished run folder has."""
    if planned.folder is None or not is_file(planned.folder / "config.json"):
        return 0.0
    rows = Run(planned.folder).metrics_rows()
    return min(1.0, rows[-1]["epoch"] / planned.settings.hparams.epochs) if rows else 0.0


def _training(epochs: int, batch_size: int, dataset: Dataset, rates: Rates) -> float:
    """Seconds of a training on labels: its start, its steps, its validations, its test."""
    trained = len(dataset.train) // batch_size * batch_size
    each_epoch = trained / rates.train + _selection_images(dataset) / rates.score
    return rates.start + epochs * each_epoch + _scored_images(dataset) / rates.score


def _selection_images(dataset: Dataset) -> int:
    """How many images each validation scores."""
    return len(dataset.validation) or len(dataset.test)


def _scored_images(dataset: Dataset) -> int:
    """How many images are scored at the end."""
    return len(dataset.validation) + len(dataset.test)
