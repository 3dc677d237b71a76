"""Compare many runs on one page: tables, figures and paired tests, made from their files alone.

    python -m kapp.recipes.report --runs runs/* --out reports/mine

writes README.md, rows.csv, figures/ and a copy of the runs' results to the folder. `--runs
reports/mine/runs/*` makes the same page again from the copy. Unfinished runs are left out. `--sweep
sweeps/mine` does the same for the trials of a sweep, `--evaluations evaluations/*` for evaluations.

By default each distillation and each fine-tuning is compared with the training on labels. `--compare-with
runs/mine` compares all with one run instead: what does each change of its settings cost?
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kapp import cli
from kapp.errors import ConfigError
from kapp.fileio import refuse_page, refuse_undecodable
from kapp.run_folder import Run
from kapp.sweep_folder import Sweep


@dataclass(frozen=True)
class Config:
    out: Path
    """The folder of the report."""
    runs: tuple[Path, ...] = ()
    """Run folders."""
    sweep: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Or the folder of a sweep."""
    compare_with: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """One of the runs: the others are compared with its experiment, by paired tests and in a figure."""
    evaluations: tuple[Path, ...] = ()
    """Or folders of evaluations."""
    title: str = ""
    """The page's title (default: Results, Evaluations, or what was swept)."""
    note: str = ""
    """A paragraph below the title: what the data are, why the runs were made."""

    def check(self) -> None:
        """Raises:
        ConfigError: not exactly one of the three is there; or a folder is not what it should be.
        """
        sources = [bool(self.runs), self.sweep is not None, bool(self.evaluations)]
        if sum(sources) != 1:
            raise ConfigError(
                "report needs exactly one of --runs, --sweep and --evaluations, such as --runs runs/*."
            )
        if self.sweep is not None:
            Sweep(self.sweep)
        if self.compare_with is not None and self.compare_with.resolve() not in [
            each.resolve() for each in self.runs
        ]:
            raise ConfigError(f"--compare-with {self.compare_with} isn't one of the folders of --runs.")
        for folder in self.runs:
            Run(folder)
        for text in (self.title, self.note, *map(str, (*self.runs, *self.evaluations, self.out))):
            refuse_undecodable(text)
        refuse_page(self.out, "rows.csv")


def main(config: Config) -> None:
    """Write the page of `config`."""
    # Imported late, because --help needs neither pandas nor matplotlib.
    from kapp.reporting import evaluation_report, summary, sweep_report

    if config.sweep is not None:
        sweep_report.write_summary(Sweep(config.sweep), config.out, config.title, config.note)
    elif config.evaluations:
        evaluation_report.write_summary(config.evaluations, config.out, config.title, config.note)
    else:
        runs, reference = find_runs(config.runs), Run(config.compare_with) if config.compare_with else None
        summary.write(runs, config.out, config.title or "Results", config.note, reference)
        kept = {path.name for path in (config.out / "runs").iterdir()} - {run.name for run in runs}
        if kept:
            print(
                f"{config.out / 'runs'} has runs of an earlier report, which this one leaves out: "
                f"{', '.join(sorted(kept))}"
            )
    print(f"report: {config.out / 'README.md'}")


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Returns the finished runs in `folders`, linear probes included, and prints which it leaves out."""
    runs = []
    for run in map(Run, folders):
        for each in filter(None, (run.probe, run)):
            if each.is_finished:
                runs += [each]
            else:
                print(f"{each.folder}: unfinished, left out")
    return runs


if __name__ == "__main__":
    cli.run(Config, main)
