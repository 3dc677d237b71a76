"""Put many runs side by side: tables and figures made from their files alone.

    python -m kapp.recipes.report --runs runs/* --out reports/mine

leaves README.md, rows.csv, figures/ and the runs' own records in the folder given, from which
`--runs reports/mine/runs/*` makes the same page again; unfinished runs are left out. `--sweep sweeps/mine`
does so for the trials of a sweep, `--evaluations evaluations/*` for what evaluate left.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kapp import cli
from kapp.errors import WrongValue
from kapp.runs import Run
from kapp.sweeps import Sweep


@dataclass(frozen=True)
class Config:
    out: Path
    """Where the report goes."""
    runs: tuple[Path, ...] = ()
    """Run folders."""
    sweep: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Or the folder of a sweep."""
    evaluations: tuple[Path, ...] = ()
    """Or folders that evaluate left."""
    title: str = ""
    """Of the page (default: Results, Evaluations, or what was swept)."""
    note: str = ""
    """A paragraph for the reader, below the title: what the data are, why the runs were made."""

    def check(self) -> None:
        """Raises:
        WrongValue: none of the three given, or several; or a folder that isn't what it should be.
        """
        given = [bool(self.runs), self.sweep is not None, bool(self.evaluations)]
        if sum(given) != 1:
            raise WrongValue(
                "report needs one of --runs, --sweep and --evaluations, such as --runs runs/*, and one only."
            )
        if self.sweep is not None:
            Sweep(self.sweep)
        for folder in self.runs:
            Run(folder)


def main(config: Config) -> None:
    if config.sweep is not None:
        from kapp.reporting import sweep_page

        sweep_page.summary_page(Sweep(config.sweep), config.out, config.title, config.note)
    elif config.evaluations:
        from kapp.reporting import evaluations

        evaluations.summary_page(config.evaluations, config.out, config.title, config.note)
    else:
        of_runs(config)
    print(f"report: {config.out / 'README.md'}")


def of_runs(config: Config) -> None:
    """Write the page over run folders."""
    from kapp.reporting import summary

    given = [Run(folder) for folder in config.runs]
    # A transfer's first phase belongs to it.
    runs = [run for each in given for run in (*([Run(each.phase1)] if each.phase1.is_dir() else []), each)]
    for run in runs:
        if not run.finished:
            print(f"{run.folder}: unfinished, left out")
    summary.summary_page(runs, config.out, config.title or "Results", config.note)


if __name__ == "__main__":
    cli.run(Config, main)
