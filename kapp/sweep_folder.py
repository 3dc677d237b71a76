"""The sweep folder: the only reader and writer of its files.

sweep.json       SweepConfig: the recipe with its settings, the tuner and what it searches
trials/004.json  Trial: its values, its score on validation images, or why it failed
trials/004/      its run folder, without a test score
best.json        the settings of the best trial, for the recipe's --config
best/            the run of best.json, with the sweep's only test score
logs/            the output of each training, with several workers
figures/         PNG files of the report
report.md        the report
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from kapp import records
from kapp.errors import ConfigError, KappError
from kapp.fileio import (
    atomic_folder,
    folder_lock,
    is_file,
    list_folder,
    make_folder,
    refuse_file,
    write_text,
)
from kapp.records import Setting, SweepConfig, Trial
from kapp.run_folder import START_AGAIN, Run, file_name, identity_settings

ROOT = Path("sweeps")
RUN_AGAIN = "Remove it: the trial is run again."
BASELINES = ("baseline", "scratch_baseline")  # a recipe trains these with the best trial alone
BEST_FILES = ("config.json", "result.json", "report.md")  # of best/, in the order in which they are written
FOLDERS = ("trials", "best", "figures", "logs")
FILES = ("best.json", "report.md", "sweep.json")  # sweep.json last: it marks the folder


def default_folder(names: Sequence[str], seed: int, config: SweepConfig) -> Path:
    """`sweeps/RECIPE-NAMES-sSEED-DIGEST`: one folder per sweep."""
    prefix = "-".join([config.recipe, *map(file_name, names)])
    return ROOT / f"{prefix}-s{seed}-{digest(config)[:6]}"


def digest(config: SweepConfig) -> str:
    """The SHA-256 of `config`, in hexadecimal."""
    return hashlib.sha256(json.dumps(records.to_json(config), sort_keys=True).encode()).hexdigest()


class Sweep:
    """One sweep folder, opened to read. `Sweep.open` opens one to write.

    Raises:
        ConfigError: `folder` is not a sweep folder.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not is_file(self._config_file):
            raise ConfigError(f"{self.folder} is not a sweep folder: it has no sweep.json.")

    @classmethod
    @contextmanager
    def open(cls, folder: Path, config: SweepConfig, overwrite: bool = False) -> Iterator["Sweep"]:
        """Open `folder` for the sweep of `config`: new, to be resumed, or complete already.

        Other processes that open it wait until this block ends.

        Args:
            folder: created if it doesn't exist.
            overwrite: delete an earlier sweep in the folder first.

        Raises:
            ConfigError: the folder has other files, or another sweep.
            KappError: the folder can't be written.
        """
        refuse_file(folder)
        path = folder / "sweep.json"
        # Files that begin with a dot are those of a killed process.
        has_files = any(not each.name.startswith(".") for each in list_folder(folder))
        if has_files and (not is_file(path) or records.is_foreign(path, SweepConfig)):
            raise ConfigError(
                f"{folder} contains files but no sweep: nothing was changed. Choose another --out."
            )
        if not overwrite:
            _refuse_another(path, config)  # now, and not after the wait for the lock
        make_folder(folder)
        waiting = f"waiting for another process that searches in {folder}"
        with folder_lock(folder, waiting, ("trials", "figures")):
            if overwrite:
                for name in FOLDERS:
                    shutil.rmtree(folder / name, ignore_errors=True)
                for name in FILES:
                    (folder / name).unlink(missing_ok=True)
            _refuse_another(path, config)
            if not is_file(path):
                records.write(config, path)
            for name in ("trials", "figures"):
                make_folder(folder / name)
            yield cls(folder)

    @property
    def config(self) -> SweepConfig:
        return _read_config(self._config_file)

    @property
    def report_file(self) -> Path:
        return self.folder / "report.md"

    @property
    def best_file(self) -> Path:
        return self.folder / "best.json"

    @property
    def best_folder(self) -> Path:
        return self.folder / "best"

    @property
    def best_run(self) -> Run | None:
        """The finished run in best/, or None.

        Raises:
            KappError: a file is missing that is written before another one.
        """
        for earlier, later in pairwise(BEST_FILES):
            if is_file(self.best_folder / later) and not is_file(self.best_folder / earlier):
                raise KappError(
                    f"{self.best_folder} is damaged (it has no {earlier}). "
                    "Remove it, and run the sweep's command again."
                )
        run = Run(self.best_folder) if is_file(self.best_folder / "config.json") else None
        return run if run and run.is_finished else None

    def figure(self, name: str) -> Path:
        return self.folder / "figures" / f"{name}.png"

    def run_folder(self, number: int) -> Path:
        """The run folder of trial `number`."""
        return self.folder / "trials" / f"{number:03d}"

    def is_complete(self, count: int | None) -> bool:
        """Whether `count` trials have ended, no file of a trial is lost, and best.json is written.

        Args:
            count: None: the tuner decides, so the result is False.
        """
        trials = self.trials()
        has_ended = bool(trials) and all(trial.end_order is not None for trial in trials)
        has_all = has_ended and trials[-1].number == len(trials) - 1
        return has_all and is_file(self.best_file) and count is not None and len(trials) >= count

    def trials(self) -> list[Trial]:
        """Every trial so far, by number.

        Raises:
            KappError: a trial's file is damaged, or that of another trial.
        """
        paths = sorted((self.folder / "trials").glob("[0-9]*.json"))  # without those of a killed process
        own, found = digest(self.config), []
        for path in paths:
            trial = records.read(Trial, path, RUN_AGAIN)
            if path.name != f"{trial.number:03d}.json" or trial.sweep_sha256 not in (None, own):
                raise KappError(f"{path} is that of another trial or sweep. {RUN_AGAIN}")
            found += [trial]
        return sorted(found, key=lambda trial: trial.number)

    def write_trial(self, trial: Trial) -> None:
        trial = dataclasses.replace(trial, sweep_sha256=digest(self.config))
        records.write(trial, self.folder / "trials" / f"{trial.number:03d}.json")

    def write_best(self, settings: Mapping[str, Setting]) -> None:
        records.write(settings, self.best_file)

    def write_report(self, text: str) -> None:
        write_text(self.report_file, text)

    def is_best_finished(self, trial: Trial) -> bool:
        """Whether best/ is the finished run of `trial`, not of an earlier best trial, and has its report."""
        if not all(is_file(self.best_folder / name) for name in BEST_FILES):
            return False
        return self.best_run is not None and _is_run_of(self.best_run, trial)

    def copy_to_best(self, trial: Trial, with_run: bool) -> None:
        """Prepare best/ for the run of the best trial.

        Args:
            trial: the best.
            with_run: copy the trial's run folder, so that the recipe only has to score it.
        """
        source = self.run_folder(trial.run)
        if is_file(self.best_folder / "config.json") and _is_run_of(Run(self.best_folder), trial):
            return  # an interrupted run, which the recipe resumes
        shutil.rmtree(self.best_folder, ignore_errors=True)
        if with_run and is_file(source / "model.keras"):
            with atomic_folder(self.best_folder) as partial:
                shutil.copytree(source, partial, dirs_exist_ok=True)
                for run in (Run(partial).probe, Run(partial)):  # the probe of a transfer
                    if run is not None:
                        run.write_place(str(self.best_folder))

    def delete_weights(self) -> None:
        """Delete the networks of the trials that have ended, except that of the best."""
        trials = self.trials()
        best = best_trial(trials)
        for trial in trials:
            folder = self.run_folder(trial.run)
            if trial.end_order is not None and trial != best and is_file(folder / "config.json"):
                Run(folder).delete_weights()

    def copy_results(self, folder: Path) -> "Sweep":
        """Copy what a report needs to `folder`, without networks and local paths; return the copy.

        Raises:
            KappError: a file is damaged, or the file of a trial or of the best settings is missing.
        """
        self._check_trials()
        best_run = self.best_run
        if is_file(self.best_folder / "config.json") and not is_file(self.best_file):
            raise KappError(
                f"{self.best_file} is missing. Run the sweep's command again: it writes it again."
            )
        if folder.resolve() == self.folder.resolve():
            return self
        for name in ("trials", "figures"):
            make_folder(folder / name)
        records.write(self.config, folder / "sweep.json")
        copy = Sweep(folder)
        for trial in self.trials():
            copy.write_trial(dataclasses.replace(trial, config=identity_settings(trial.config)))
        if is_file(self.best_file):
            best = records.read(dict[str, Setting], self.best_file, "Run the sweep's command again.")
            copy.write_best(identity_settings(best))
        if best_run is not None:
            best_run.copy_results(copy.best_folder)
            if best_run.probe is not None:
                best_run.probe.copy_results(Run(copy.best_folder).linear_probe)
        return copy

    def _check_trials(self) -> None:
        """Raise where a trial has a number or a run folder, but no file."""
        # Before the files: a trial that begins meanwhile has a file before it has a folder.
        paths = [path for path in (self.folder / "trials").glob("[0-9]*") if path.is_dir()]
        folders = {int(path.name) for path in paths if path.name.isdecimal()}
        trials = {trial.number for trial in self.trials()}
        for number in sorted({*range(max(trials, default=-1)), *folders} - trials):
            path = self.folder / "trials" / f"{number:03d}.json"
            raise KappError(f"{path} is missing. Run the sweep's command again: it runs that trial again.")

    @property
    def _config_file(self) -> Path:
        return self.folder / "sweep.json"


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial with the highest score, the first of equals; None if no trial finished."""
    return max((t for t in trials if t.status == "finished"), key=lambda t: t.score or 0.0, default=None)


def _read_config(path: Path) -> SweepConfig:
    return records.read(SweepConfig, path, START_AGAIN)


def _refuse_another(path: Path, config: SweepConfig) -> None:
    """Raise a ConfigError if the sweep.json at `path` is of another sweep than `config`."""
    if not is_file(path):
        return
    old, new = _flat(_read_config(path)), _flat(config)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if keys:
        changes = ", ".join(f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in keys)
        raise ConfigError(
            f"{path.parent} contains another sweep ({changes}). Choose another --out, "
            "or --overwrite to start again."
        )


def _flat(config: SweepConfig) -> dict[str, Setting]:
    ranges = {f"range of {each.name}": f"{each.low}:{each.high}" for each in config.space}
    values = records.to_json(dataclasses.replace(config, space=(), settings={}))
    return {**values, **ranges, **config.settings}


def _is_run_of(run: Run, trial: Trial) -> bool:
    return _compared(trial.config) == _compared(run.config.settings)


def _compared(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings that a trial and the run of the best trial have in common."""
    return {key: value for key, value in identity_settings(settings).items() if key not in BASELINES}
