"""Put many runs side by side: tables and figures made from their files alone.

    python -m kapp.recipes.report --runs runs/* --out reports/mine

leaves README.md, rows.csv, figures/ and the runs' own records in the folder given, from which
`--runs reports/mine/runs/*` makes the same page again; unfinished runs are left out. `--sweep sweeps/mine`
does so for the trials of a sweep.
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
    title: str = ""
    """Of the page (default: Results, or what was swept)."""
    note: str = ""
    """A paragraph for the reader, below the title: what the data are, why the runs were made."""

    def check(self) -> None:
        """Raises:
        WrongValue: no run folder or sweep given, or one that isn't.
        """
        if self.sweep is not None:
            if self.runs:
                raise WrongValue("report takes --runs or --sweep, one of them only.")
            Sweep(self.sweep)
            return
        if not self.runs:
            raise WrongValue("--runs needs at least one run folder, such as runs/*.")
        for folder in self.runs:
            Run(folder)


def main(config: Config) -> None:
    from kapp.reporting import summary, sweep_page

    if config.sweep is not None:
        sweep_page.summary_page(Sweep(config.sweep), config.out, config.title, config.note)
        print(f"report: {config.out / 'README.md'}")
        return
    given = [Run(folder) for folder in config.runs]
    # A transfer's first phase belongs to it.
    runs = [run for each in given for run in (*([Run(each.phase1)] if each.phase1.is_dir() else []), each)]
    for run in runs:
        if not run.finished:
            print(f"{run.folder}: unfinished, left out")
    summary.summary_page(runs, config.out, config.title or "Results", config.note)
    print(f"report: {config.out / 'README.md'}")


if __name__ == "__main__":
    cli.run(Config, main)
