"""Rows of the papers' tables, and the settings of the runs that reproduce them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import ModuleType

from kapp import models
from kapp.errors import ConfigError, unknown
from kapp.papers import hu, ratusznik, scales
from kapp.papers.scales import Kind
from kapp.recipes import distill, train, transfer
from kapp.recipes.settings import ComputeOptions, DataOptions, HParamFlags, NetworkFlags, ScaleName

Row = ratusznik.Row | hu.Row
RunSettings = train.Settings | distill.Settings | transfer.Settings
PAPERS: Mapping[str, ModuleType] = {"ratusznik": ratusznik, "hu": hu}
TITLES = {"ratusznik": "Ratusznik et al.", "hu": "Hu 2018"}
KINDS: Mapping[str, tuple[Kind, ...]] = {
    "ratusznik": ("student", "distilled", "teacher"),
    "hu:3": ("all_cnn",),
    "hu:4": ("all_cnn", "scratch", "linear_probe", "fine_tuning"),
}
TABLES = tuple(f"{paper}:{table}" for paper, module in PAPERS.items() for table in module.TABLES)


@dataclass(frozen=True)
class Shared:
    """What the runs of all rows have in common.

    Args:
        scale: its name.
        dataset: the stand-in for CIFAR-10.
        targets: the stand-ins for class1 and class2 of CIFAR-100.
        widths: of some networks; the others have that of the scale.
        hu_validation_images: how many images of `dataset` the rows of Hu 2018 hold out; None: those that it
            has of its own.
        data_dir, precision: as the flags of these names.
    """

    scale: ScaleName
    dataset: str
    targets: tuple[str, str]
    widths: Mapping[str, float]
    hu_validation_images: int | None
    data_dir: str | None
    precision: str

    def width(self, model: str) -> float:
        return self.widths.get(model, scales.get(self.scale).width)

    @property
    def data(self) -> DataOptions:
        return DataOptions(data_dir=self.data_dir)

    @property
    def compute(self) -> ComputeOptions:
        return ComputeOptions(precision=self.precision)  # type: ignore[arg-type]


def table_rows(table: str) -> list[Row]:
    """The rows of a table of `TABLES`, as printed."""
    paper, number = table.split(":")
    return PAPERS[paper].rows(number)


def kinds(tables: Sequence[str]) -> set[Kind]:
    """The kinds of training that the rows of `tables` need."""
    return {kind for table in tables for kind in KINDS.get(table) or KINDS[table.split(":")[0]]}


def check_tables(tables: Sequence[str]) -> None:
    """Refuse a table that isn't one of `TABLES`.

    Raises:
        ConfigError: with the tables that there are.
    """
    for table in tables:
        if table not in TABLES:
            raise unknown("table", table, TABLES)


def pick(tables: Sequence[str], patterns: Sequence[str]) -> list[Row]:
    """The rows of `tables` whose names match one of `patterns`; all without patterns. Each comes once.

    Args:
        patterns: parts of names, or names with the wildcards * and ?.

    Raises:
        ConfigError: a pattern that matches no row.
    """
    rows = list(dict.fromkeys(row for table in tables for row in table_rows(table)))
    for pattern in patterns:
        if not any(_matches(row.name, pattern) for row in rows):
            raise unknown("row", pattern, [row.name for row in rows], ", or parts of these names")
    return [row for row in rows if not patterns or any(_matches(row.name, each) for each in patterns)]


def parse_widths(flags: Sequence[str], networks: Sequence[str]) -> dict[str, float]:
    """The widths in flags such as deep_resnet=0.5 or *_c=0.5, by the names of `networks`.

    Raises:
        ConfigError: a flag that has another form, or fits none of `networks`.
    """
    widths: dict[str, float] = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        try:
            width = float(value)
        except ValueError:
            width = 0.0
        if not 0 < width < float("inf"):
            raise ConfigError(f"--width {flag}: it must be NETWORK=WIDTH, such as deep_resnet=0.5.")
        fitting = [network for network in networks if fnmatchcase(network, name)]
        if not fitting:
            raise unknown("network", name, networks)
        widths |= dict.fromkeys(fitting, width)
    return widths


def networks(rows: Sequence[Row]) -> list[str]:
    """The networks that the runs of `rows` train, teachers included."""
    names = [row.model for row in rows]
    names += [row.teacher for row in rows if isinstance(row, ratusznik.Row) and row.teacher]
    return list(dict.fromkeys(names))


def run_settings(row: Row, seed: int, shared: Shared) -> RunSettings:
    """The settings of the run that reproduces `row`; that of a linear probe is its transfer's."""
    if isinstance(row, ratusznik.Row):
        return _of_ratusznik(row, seed, shared)
    return _of_hu(row, seed, shared)


def reported_parameters(row: Row) -> str:
    """The number of parameters that the paper reports for the row's network; "" where it has none."""
    return models.get_spec(row.model).reported_parameters if isinstance(row, ratusznik.Row) else ""


def _of_ratusznik(row: ratusznik.Row, seed: int, shared: Shared) -> RunSettings:
    if row.teacher is None:
        return train.Config(
            model=row.model,
            dataset=shared.dataset,
            seed=seed,
            scale=shared.scale,
            data=shared.data,
            network=NetworkFlags(width=shared.width(row.model)),
            compute=shared.compute,
        ).resolved()
    return distill.Config(
        teacher=(row.teacher,),
        student=row.model,
        dataset=shared.dataset,
        width=shared.width(row.model),
        seed=seed,
        scale=shared.scale,
        teacher_training=distill.TeacherFlags(teacher_width=shared.width(row.teacher)),
        data=shared.data,
        compute=shared.compute,
    ).resolved()


def _of_hu(row: hu.Row, seed: int, shared: Shared) -> RunSettings:
    scale = scales.get(shared.scale)
    # Rates go with the schedule of the paper.
    rates = None if "schedule" in scale.hu else row.learning_rates
    network = NetworkFlags(width=shared.width(row.model))
    if row.table == "table 3":
        return train.Config(
            model=row.model,
            dataset=shared.dataset,
            seed=seed,
            scale=shared.scale,
            hparams=HParamFlags(rates=rates),
            data=replace(shared.data, validation_images=shared.hu_validation_images),
            network=network,
            compute=shared.compute,
        ).resolved()
    source = next(each for each in hu.ROWS if each.model == row.model and each.table == "table 3")
    settings = transfer.Config(
        model=row.model,
        source=shared.dataset,
        target=(shared.targets[0 if row.dataset == "cifar100:class1" else 1],),
        seed=seed,
        scale=shared.scale,
        source_training=transfer.SourceFlags(
            source_validation_images=shared.hu_validation_images,
            source_rates=source.learning_rates if rates else None,
        ),
        hparams=HParamFlags(rates=rates),
        data=replace(shared.data, validation_images=0),  # section 3.1: 5,000 to train on, 1,000 to test
        network=network,
        compute=shared.compute,
    ).resolved()
    return settings.scratch_settings() if row.phase == "scratch" else settings


def _matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return fnmatchcase(name, pattern if set(pattern) & set("*?[") else f"*{pattern}*")
