"""Reproduce the tables and figures of the papers: train what their rows need, and compare.

    python -m kapp.recipes.reproduce --table ratusznik:3 --scale short --seeds 3

trains every network of the table that has no finished run yet, on labels and distilled, and leaves
reproduction/short-cifar10/ with README.md: published and measured accuracies, paired tests, figures.
--dry-run prints the plan and its hours on this machine; --budget 6h runs what fits. With --scale small
--dataset shapes a table takes minutes. docs/reproduce.md lists the tables, their rows and the scales.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from kapp import cli, data, hardware
from kapp.cluster import Cluster, Serial
from kapp.errors import ConfigError, KappError
from kapp.fileio import make_folder, refuse_page, refuse_undecodable
from kapp.papers import hu, scales
from kapp.progress import duration
from kapp.recipes.settings import (
    ClusterOptions,
    DataOptions,
    OptionalFolder,
    OptionalStr,
    ScaleName,
    check_max,
    check_min,
)
from kapp.reproduction import costs, paper_rows, plan
from kapp.reproduction.paper_rows import Row, Shared
from kapp.reproduction.plan import Plan, PlannedRun, load_dataset
from kapp.reproduction.schedule import Clock, Schedule, parse_duration
from kapp.run_folder import Run, file_name

MAX_SEEDS = 1000  # more have no plan that ends, and are a slip of the key


@dataclass(frozen=True)
class Config:
    table: tuple[str, ...] = paper_rows.TABLES
    """Tables of the papers, such as ratusznik:3 hu:3 (default: all)."""
    rows: tuple[str, ...] = ()
    """Train only these rows: parts of their names, such as linear_3, or names with * and ? (default: all).
    The report has all rows of the tables."""
    scale: ScaleName = "short"
    """paper: the printed settings. short: a modern schedule with fewer epochs. small: minutes, to see it
    work."""
    width: tuple[str, ...] = ()
    """Other widths of some networks, such as deep_resnet=0.5 or '*_c=0.5'."""
    seeds: int = 1
    """How many seeds per row, from 0 on."""
    dataset: str = "cifar10"
    """The stand-in for CIFAR-10, with names as for --dataset of the other recipes."""
    target: tuple[str, ...] = ("cifar100:class1", "cifar100:class2")
    """The two small sets of hu:4: one like the data set, one unlike it."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where data sets and caches are (default: $KAPP_DATA_DIR or ~/.cache/kapp)."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """auto: bfloat16 where it is faster on this machine."""
    dry_run: bool = False
    """Print the plan and its hours, and train nothing."""
    budget: OptionalStr = None
    """Start only runs that fit into this time, such as 6h or 90min (default: all)."""
    merge: tuple[Path, ...] = ()
    """Finished run folders from elsewhere, or folders of them: they fill rows that have the same settings, on
    whichever backend and device they ran."""
    out: OptionalFolder = None
    """The folder of the report (default: reproduction/SCALE-DATASET)."""
    note: str = ""
    """A paragraph below the report's title: what the data are, why the runs were made."""
    cluster: ClusterOptions = ClusterOptions()

    interrupted: ClassVar[str] = "The same command resumes from the last checkpoint."

    def check(self) -> None:
        """Refuse wrong values before Keras is imported.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        cli.backend()
        check_min(self, 1, "seeds")
        check_max(self, MAX_SEEDS, "seeds")
        if not self.table:
            raise ConfigError(f"--table needs at least one of {', '.join(paper_rows.TABLES)}.")
        paper_rows.check_tables(self.table)
        paper_rows.pick(self.table, self.rows)
        paper_rows.parse_widths(self.width, paper_rows.networks(self.all_rows))
        data.sources.check_data_dir(self.data_dir)
        data.sources.check(self.dataset)
        if len(self.target) != 2:
            raise ConfigError(f"--target has {len(self.target)} data sets: give two, for class1 and class2.")
        if "hu:4" in self.table:
            for name in self.target:
                data.sources.check(name)
        if self.budget is not None:
            parse_duration(self.budget)
        plan.finished_runs(self.merge)
        refuse_page(self.folder, "figures")
        refuse_undecodable(self.note)
        if self.cluster != ClusterOptions(workers=self.cluster.workers) or not self.is_serial:
            self.cluster.check()

    @property
    def is_serial(self) -> bool:
        """Whether the runs are trained in this process, one after another."""
        own = self.cluster.scheduler is None and self.cluster.workers in (None, 1)
        return own and not self.cluster.dashboard  # which shows workers

    @property
    def folder(self) -> Path:
        """The folder of the report."""
        return self.out or Path("reproduction") / f"{self.scale}-{file_name(self.dataset)}"

    def shared(self, scale: ScaleName) -> Shared:
        """What the runs of all rows have in common at `scale`."""
        held_out = None
        if any(isinstance(row, hu.Row) for row in self.all_rows):
            dataset = load_dataset(self.dataset, DataOptions(data_dir=self.data_dir))
            if not dataset.has_own_validation:
                held_out = hu.validation_images(len(dataset.train) + len(dataset.validation))
        return Shared(
            scale=scale,
            dataset=self.dataset,
            targets=(self.target[0], self.target[1]),
            widths=self.widths,
            hu_validation_images=held_out,
            data_dir=self.data_dir,
            precision=self.precision,
        )

    @property
    def all_rows(self) -> list[Row]:
        """The rows of the tables, which the report has."""
        return paper_rows.pick(self.table, ())

    @property
    def widths(self) -> dict[str, float]:
        """The widths of --width, by network."""
        return paper_rows.parse_widths(self.width, paper_rows.networks(self.all_rows))

    @property
    def changes(self) -> list[str]:
        """What differs from the papers' settings, a line each."""
        lines = scales.get(self.scale).changes(paper_rows.kinds(self.table))
        if self.widths:
            lines += ["width of " + ", ".join(f"{name}: {width:g}" for name, width in self.widths.items())]
        if self.dataset != "cifar10":
            lines += [f"{self.dataset} in place of CIFAR-10"]
        if self.target != Config().target and "hu:4" in self.table:
            lines += [f"{self.target[0]} in place of class1, {self.target[1]} of class2"]
        return lines

    @property
    def device(self) -> str:
        """What rates are measured on: this machine, or a cluster."""
        return self.cluster.scheduler or " ".join([hardware.processor(), *hardware.gpus()])

    def command(self, row: Row) -> str:
        """The command that runs what is missing of `row`."""
        words = ["kapp", "reproduce"]
        if self.table != paper_rows.TABLES:
            words += ["--table", *self.table]
        words += ["--rows", row.name, "--scale", self.scale, "--seeds", str(self.seeds)]
        if self.width:
            words += ["--width", *self.width]
        if self.dataset != "cifar10":
            words += ["--dataset", self.dataset]
        if self.target != Config().target:
            words += ["--target", *self.target]
        if self.precision != "auto":
            words += ["--precision", self.precision]
        if self.out is not None:
            words += ["--out", str(self.out)]
        return shlex.join(words)


def main(config: Config) -> None:
    """Run the plan of `config`, or print it.

    Raises:
        KappError: a run failed.
    """
    picked = paper_rows.pick(config.table, config.rows)
    planned = plan.make(
        config.all_rows, config.seeds, config.shared(config.scale), plan.finished_runs(config.merge)
    )
    print("\n  ".join([f"scale {config.scale}: {scales.get(config.scale).summary}", *config.changes]))
    with open_workers(config) as workers:
        runs = planned.to_do(picked)
        costs.measure_missing(runs, workers, config.device)
        estimate(planned, config)
        print_plan(planned, picked, config.dry_run)
        if config.dry_run:
            print_hours_of_scales(picked, workers, config)
            return
        make_folder(config.folder)
        clock = Clock(parse_duration(config.budget) if config.budget else None)
        left = Schedule(runs, workers, clock).run(lambda: write_report(planned, config))
    write_report(planned, config)
    if left:
        seconds = clock.pace * sum(run.seconds_left or 0.0 for run in left)
        print(f"not run: {count(left)}, about {duration(seconds)}; the report has the commands")
    print(f"report: {config.folder / 'README.md'}", flush=True)
    failed = [run for run in runs if run.error]
    if failed:
        raise KappError(f"{len(failed)} of {count(runs)} failed: the report has the reasons.")


def count(runs: Sequence[PlannedRun]) -> str:
    """How many `runs` there are, in words."""
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


@contextmanager
def open_workers(config: Config) -> Iterator[Cluster]:
    """What trains the runs: this process, or the workers of a cluster."""
    if config.is_serial:
        yield Serial()
        return
    make_folder(config.folder)
    with config.cluster.open(config.folder) as workers:
        yield workers


def estimate(planned: Plan, config: Config) -> None:
    """Estimate the seconds of the plan's runs from the rates that are known."""
    device = config.device
    costs.estimate(planned.runs.values(), lambda settings: costs.known(settings, device))


def print_plan(planned: Plan, picked: list[Row], with_runs: bool) -> None:
    """Print the rows and their hours; with `with_runs` also the runs, in the order in which they start."""
    from kapp.reproduction import plan_table

    print(f"\n{plan_table.rows_table(planned, picked)}")
    if with_runs:
        print(f"\n{plan_table.runs_list(planned.to_do(picked))}")
    print(f"\n{plan_table.summary(planned, picked)}\n", flush=True)


def print_hours_of_scales(picked: list[Row], workers: Cluster, config: Config) -> None:
    """Print the hours of the rows at each scale, from nothing."""
    from kapp.reporting.reproduction_report import format_hours

    seeds = "1 seed" if config.seeds == 1 else f"{config.seeds} seeds"
    lines = [f"these rows with {seeds}, from nothing, on this machine:"]
    for scale in scales.SCALES:
        planned = plan.make(picked, config.seeds, config.shared(scale.name))
        runs = list(planned.runs.values())
        costs.measure_missing(runs, workers, config.device)
        estimate(planned, config)
        estimated = [run.seconds for run in runs if run.seconds is not None]
        words = format_hours(sum(estimated) / 3600)
        if len(estimated) < len(runs):
            words += f" and {len(runs) - len(estimated)} runs without an estimate"
        lines += [f"  {scale.name}: {len(runs)} runs, {words} ({scale.summary})"]
    print("\n".join(lines), flush=True)


def write_report(planned: Plan, config: Config) -> None:
    """Write the report of all rows of the tables."""
    from kapp.reporting import reproduction_report
    from kapp.reporting.reproduction_report import ReproducedFigure, ReproducedTable

    by_name = {row.name: reproduced(planned, row, config) for row in config.all_rows}
    tables, figures = [], []
    for table in config.table:
        paper, number = table.split(":")
        title = f"{paper_rows.TITLES[paper]}, table {number}: {paper_rows.PAPERS[paper].TABLES[number]}"
        of_table = [by_name[row.name] for row in paper_rows.table_rows(table)]
        tables += [ReproducedTable(title, of_table)]
    for paper, module in paper_rows.PAPERS.items():
        for figure in module.FIGURES:
            drawn = [by_name[name] for name in figure.rows if name in by_name]
            figures += [ReproducedFigure(paper, paper_rows.TITLES[paper], figure, drawn)]
    needed = dict.fromkeys(need for cell in planned.cells for need in cell.planned.needs)
    reproduction_report.write(
        config.folder,
        f"The papers' tables at scale {config.scale}",
        config.note,
        config.changes,
        tables,
        figures,
        [Run(need.folder) for need in needed if need.is_finished and need.folder],
    )


def reproduced(planned: Plan, row: Row, config: Config):
    """The published row and its runs, for the report."""
    from kapp.reporting.reproduction_report import ReproducedRow

    cells = planned.of(row)
    missing = list(dict.fromkeys(run for cell in cells for run in cell.missing()))
    seconds = [run.seconds_left for run in missing if run.seconds_left is not None]
    return ReproducedRow(
        name=row.name,
        published=row.accuracy,
        published_epochs=row.epochs,
        reported_parameters=paper_rows.reported_parameters(row),
        compared_with=row.compared_with,
        seeds=config.seeds,
        runs=tuple(run for cell in cells if (run := cell.run)),
        elsewhere=frozenset(cell.merged.name for cell in cells if cell.merged),
        hours=sum(seconds) / 3600 if len(seconds) == len(missing) else None,
        command=config.command(row),
        errors=tuple(run.error for run in missing if run.error),
    )


if __name__ == "__main__":
    cli.run(Config, main)
