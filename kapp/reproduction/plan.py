"""The runs that rows of the papers' tables need, in the order in which they are worth their hours."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from kapp import cli
from kapp.data import Dataset
from kapp.errors import ConfigError
from kapp.papers import hu, order
from kapp.recipes import distill, train, transfer
from kapp.recipes.settings import DataOptions
from kapp.records import RunConfig
from kapp.reproduction.paper_rows import Row, RunSettings, Shared, run_settings
from kapp.run_folder import Run, identity, is_finished

# What may differ in a run from elsewhere: where it was computed, and where its data lay.
NOT_COMPARED = (
    "backend", "precision", "dataset", "source", "target", "source_sha256", "teachers_sha256",
)  # fmt: skip


@dataclass(eq=False)
class PlannedRun:
    """One run of a plan.

    Args:
        name: for messages; no other run of the plan has it.
        settings: of its recipe.
        needs: the runs that must be finished before it starts.
        folder: its run folder; None: not known before its source is finished.
        is_finished: whether the run exists and is finished.
        seconds: estimated from nothing; None: not estimated.
        seconds_left: estimated from where the run folder stands.
        images_per_second: of its training, measured.
        error: why it failed.
    """

    name: str
    settings: RunSettings
    needs: tuple["PlannedRun", ...]
    folder: Path | None = None
    is_finished: bool = False
    seconds: float | None = None
    seconds_left: float | None = None
    images_per_second: float | None = None
    error: str | None = None

    def missing(self) -> list["PlannedRun"]:
        """This run and those that it needs, where they aren't finished; dependencies first."""
        if self.is_finished:
            return []
        runs = [run for need in self.needs for run in need.missing()]
        return list(dict.fromkeys([*runs, self]))


@dataclass(frozen=True)
class Cell:
    """One seed of a row: a run of the plan, or a finished run from elsewhere."""

    row: Row
    seed: int
    planned: PlannedRun
    merged: Run | None = None

    @property
    def is_finished(self) -> bool:
        return self.merged is not None or self.planned.is_finished

    @property
    def run(self) -> Run | None:
        """The finished run."""
        if self.merged is not None:
            return self.merged
        if not self.planned.is_finished or self.planned.folder is None:
            return None
        run = Run(self.planned.folder)
        return run.probe if getattr(self.row, "phase", "") == "linear_probe" else run

    def missing(self) -> list[PlannedRun]:
        return [] if self.is_finished else self.planned.missing()


@dataclass
class Plan:
    """Rows of the papers' tables, and the runs that they need.

    Args:
        shared: what the runs have in common.
        cells: by row and seed, in the order of their value.
        runs: all of them, each once, in the order in which they can run.
    """

    shared: Shared
    cells: list[Cell] = field(default_factory=list)
    runs: dict[RunSettings, PlannedRun] = field(default_factory=dict)

    def of(self, row: Row) -> list[Cell]:
        """The seeds of `row`."""
        return sorted((cell for cell in self.cells if cell.row == row), key=lambda cell: cell.seed)

    def to_do(self, rows: Iterable[Row]) -> list[PlannedRun]:
        """The unfinished runs that `rows` need, in the order in which they can run."""
        rows = list(rows)
        runs = [run for cell in self.cells if cell.row in rows for run in cell.missing()]
        return list(dict.fromkeys(runs))


def make(rows: Sequence[Row], seeds: int, shared: Shared, merged: Sequence[Run] = ()) -> Plan:
    """The plan of `rows` with the seeds below `seeds`; finds the runs that exist.

    Args:
        merged: finished runs from elsewhere. They fill rows, but teach no student of this plan.
    """
    plan, by_name = Plan(shared), {row.name: row for row in rows}
    from_elsewhere = {_merge_key(run.config, run.result.phase): run for run in merged}
    for name, seed in order.by_value(list(by_name), seeds):
        row = by_name[name]
        planned = _add(plan, run_settings(row, seed, shared))
        found = from_elsewhere.get(_merge_key(_config(planned), _phase(row, planned)))
        plan.cells += [Cell(row, seed, planned, found)]
    for planned in plan.runs.values():
        find(planned)
    return plan


def find(planned: PlannedRun) -> bool:
    """Look for the finished run; needed ones must have been looked for before."""
    settings = planned.settings
    dataset = load_dataset(data_name(settings), settings.data)
    if isinstance(settings, transfer.Settings):
        source = planned.needs[0]
        if not source.is_finished or source.folder is None:
            return False
        config = settings.run_config(dataset, source.folder)
        planned.folder = settings.folder(dataset, source.folder)
    else:
        config, planned.folder = settings.run_config(dataset), settings.folder(dataset)
    planned.is_finished = is_finished(planned.folder, config)
    return planned.is_finished


def finished_runs(folders: Iterable[Path]) -> list[Run]:
    """The finished runs in `folders`, run folders or folders of run folders; linear probes included.

    Raises:
        ConfigError: a folder that doesn't exist or has no finished run.
    """
    runs = []
    for folder in folders:
        configs = [*folder.glob("config.json"), *folder.glob("*/config.json")]
        inside = [Run(path.parent) for path in sorted(configs)]
        found = [run for run in inside if run.is_finished]
        if not found:
            raise ConfigError(
                f"--merge {folder}: there is no finished run in it. Give a run folder, or a folder of run "
                "folders."
            )
        for run in found:
            if run.probe is not None and run.probe.is_finished:
                runs += [run.probe]
        runs += found
    return runs


def data_name(settings: RunSettings) -> str:
    """The name of the data set that the run trains on."""
    return settings.target[0] if isinstance(settings, transfer.Settings) else settings.dataset


@lru_cache(maxsize=8)
def load_dataset(name: str, options: DataOptions) -> Dataset:
    """The data set called `name`, loaded once for all runs that share its split."""
    return options.load(name, batch_size=1)


def describe(settings: RunSettings) -> str:
    """A run in words, without its seed: linear_3 from teacher_1."""
    if isinstance(settings, distill.Settings):
        return f"{settings.student} from {' + '.join(settings.teacher)}"
    if isinstance(settings, transfer.Settings):
        return f"{settings.model} from {settings.source} to {settings.target[0]}"
    return f"{settings.model} on {settings.dataset}"


def _add(plan: Plan, settings: RunSettings) -> PlannedRun:
    """The run with these settings; a new one after those that it needs, unless the plan has it."""
    if settings not in plan.runs:
        needs = tuple(_add(plan, needed) for needed in settings.needed_runs)
        name, names = f"{describe(settings)}, seed {settings.seed}", {run.name for run in plan.runs.values()}
        if name in names:  # such as a source and a target with the same name
            name += f" ({len(names)})"
        plan.runs[settings] = PlannedRun(name, settings, needs)
    return plan.runs[settings]


def _config(planned: PlannedRun) -> RunConfig:
    """The run's config.json, without the network that a transfer starts from."""
    settings = planned.settings
    recipe = {train.Settings: "train", distill.Settings: "distill", transfer.Settings: "transfer"}
    dataset = load_dataset(data_name(settings), settings.data)
    return RunConfig(recipe[type(settings)], cli.backend(), dataset.checksum, cli.as_json(settings))


def _merge_key(config: RunConfig, phase: str | None) -> str:
    """What two runs of the same experiment share, wherever they were computed."""
    values = identity(config)
    compared = {name: value for name, value in values.items() if name not in NOT_COMPARED}
    return json.dumps([compared, phase], sort_keys=True)


def _phase(row: Row, planned: PlannedRun) -> str | None:
    """The phase in the result of the row's run."""
    is_transfer = isinstance(planned.settings, transfer.Settings)
    return row.phase if is_transfer and isinstance(row, hu.Row) else None
