"""The sweep folder: the only reader and writer of its files.

sweep.json       the recipe with its settings, what is searched, by which tuner
trials/004.json  a trial: its values, how it went, its score on validation images, or why it failed
trials/004/      its run folder; no test image was scored in it
best.json        the config of the best trial, which the recipe runs as it is: --config best.json
best/            that run, with the sweep's only test score
teachers/        the config of what was trained before the trials
figures/         what people look at
report.md        what happened
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kapp.errors import Failure, WrongValue
from kapp.files import alone, make_folder, replacing_folder, write_text
from kapp.runs import NOT_THE_EXPERIMENT, Run, experiment, file_name

ROOT = Path("sweeps")
WAITING = "waiting for another process that searches in {}"
BESIDE = ("baseline", "scratch")  # what a recipe trains beside the best, and beside no trial
FOLDERS = ("trials", "best", "teachers", "figures", "workers")
FILES = ("best.json", "report.md", "sweep.json")  # by the last a folder is known to be a sweep's


@dataclass
class Trial:
    """One trial, as its file holds it. Scores are fractions, times in seconds."""

    number: int
    values: dict[str, float]  # as they were proposed
    epochs: int  # to train up to
    run: int  # whose run folder it trains in: its own, or that of the trial that it continues
    default: bool = False  # trained with the recipe's own settings, whatever `values` say
    status: str = "running"  # then finished or failed
    worker: str = ""
    asked: float = 0.0  # when it was first handed out, since the sweep began
    told: float | None = None  # when it ended
    place: int | None = None  # how many trials had ended before
    started: int | None = None  # and how many had been handed out by then
    score: float | None = None  # the best validation accuracy
    best_epoch: float | None = None
    seconds: float | None = None  # of training
    parameters: int | None = None
    network: str | None = None
    config: dict[str, Any] = field(default_factory=dict)  # what the recipe ran, resolved
    message: str | None = None  # why it failed


def default_folder(recipe: str, names: Sequence[str], seed: int, settings: Mapping) -> Path:
    """`sweeps/RECIPE-NAMES-sSEED-DIGEST`: the same search finds its folder again, no other does."""
    words = "-".join([recipe, *map(file_name, names)])
    return ROOT / f"{words}-s{seed}-{digest(settings)[:6]}"


def digest(settings: Mapping) -> str:
    """What tells one search from another."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class Sweep:
    """One sweep folder, opened to read. `Sweep.start` opens one to write."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not (self.folder / "sweep.json").is_file():
            raise WrongValue(f"{self.folder} is not a sweep folder: it holds no sweep.json.")

    @classmethod
    def start(cls, folder: Path, settings: Mapping[str, Any], overwrite: bool = False) -> "Sweep":
        """Open `folder` for the search that `settings` describe: a new one, or one to go on with.

        Raises:
            WrongValue: the folder holds something else, or another search.
            Failure: the folder can't be written.
        """
        if folder.exists() and not folder.is_dir():
            raise WrongValue(f"{folder} is a file, not a folder. Choose another --out.")
        make_folder(folder)
        path = folder / "sweep.json"
        if not path.is_file() and any(not each.name.startswith(".") for each in folder.iterdir()):
            raise WrongValue(
                f"{folder} holds files but no sweep: nothing there was touched. Choose another --out."
            )
        if overwrite:
            with alone(folder, WAITING.format(folder)):
                for name in FOLDERS:
                    shutil.rmtree(folder / name, ignore_errors=True)
                for name in FILES:
                    (folder / name).unlink(missing_ok=True)
        if path.is_file():
            changes = _changes(_read(path), settings)
            if changes:
                raise WrongValue(
                    f"{folder} holds another sweep ({', '.join(changes)}). Choose another --out, or "
                    "--overwrite to start anew."
                )
        else:
            write_text(path, json.dumps(settings, indent=2) + "\n")
        for name in ("trials", "figures"):
            (folder / name).mkdir(exist_ok=True)
        return cls(folder)

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from searching in this folder meanwhile; wait for one that is."""
        return alone(self.folder, WAITING.format(self.folder))

    @property
    def settings(self) -> dict[str, Any]:
        return _read(self.folder / "sweep.json")

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
        """The finished run of the best config, where there is one."""
        run = Run(self.best_folder) if (self.best_folder / "config.json").is_file() else None
        return run if run and run.finished else None

    def best_is_run(self, leader: Trial) -> bool:
        """Whether the best trial is run to its end, and not one that was the best before more were tried."""
        return self.best_run is not None and _is_of(self.best_run, leader)

    def copy_to_best(self, leader: Trial, whole: bool) -> None:
        """Make room in best/ for the run of the best trial, and put a copy of what it has trained there.

        Args:
            whole: whether its run is to be the same in all, so that it can be gone on with.
        """
        folder, trained = self.best_folder, self.run_folder(leader.run)
        if (folder / "config.json").is_file() and _is_of(Run(folder), leader):
            return  # of which a process was killed, say
        shutil.rmtree(folder, ignore_errors=True)
        if whole and (trained / "model.keras").is_file():
            with replacing_folder(folder) as partial:
                shutil.copytree(trained, partial, dirs_exist_ok=True)

    def copy_record(self, folder: Path) -> "Sweep":
        """Keep in `folder` what a report needs of this sweep, and nothing that says where it lay: of the run
        folders only the best's, without its network."""
        if folder.resolve() == self.folder.resolve():
            return self
        make_folder(folder)
        write_text(folder / "sweep.json", json.dumps(self.settings, indent=2) + "\n")
        for name in ("trials", "figures"):
            make_folder(folder / name)
        copy = Sweep(folder)
        for trial in self.trials():
            copy.write_trial(dataclasses.replace(trial, config=experiment(trial.config)))
        if self.best_file.is_file():
            copy.write_best(experiment(_read(self.best_file)))
        if self.best_run is not None:
            self.best_run.copy_record(copy.best_folder)
            if self.best_run.phase1.is_dir():
                Run(self.best_run.phase1).copy_record(Run(copy.best_folder).phase1)
        return copy

    def searched(self, count: int | None) -> bool:
        """Whether the search ended, with `count` trials; of None, as many as there are, the tuner knows."""
        trials = self.trials()
        whole = bool(trials) and all(trial.place is not None for trial in trials)
        return whole and self.best_file.is_file() and count is not None and len(trials) >= count

    def figure(self, name: str) -> Path:
        return self.folder / "figures" / f"{name}.png"

    def run_folder(self, number: int) -> Path:
        """Where trial `number` trains."""
        return self.folder / "trials" / f"{number:03d}"

    def trials(self) -> list[Trial]:
        """Every trial so far, by number.

        Raises:
            Failure: the file of one is damaged.
        """
        found = []
        for path in sorted((self.folder / "trials").glob("[0-9]*.json")):  # not what a kill left half written
            try:
                found.append(Trial(**_read(path)))
            except TypeError as error:
                raise Failure(f"{path} is no trial ({error}). Remove it: the trial is run again.") from error
        return sorted(found, key=lambda trial: trial.number)

    def write_trial(self, trial: Trial) -> None:
        path = self.folder / "trials" / f"{trial.number:03d}.json"
        write_text(path, json.dumps(dataclasses.asdict(trial), indent=2) + "\n")

    def write_best(self, config: Mapping[str, Any]) -> None:
        write_text(self.best_file, json.dumps(config, indent=2) + "\n")

    def write_report(self, text: str) -> None:
        write_text(self.report_file, text)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial of the highest score, the first where several are equal; None without one."""
    return max((t for t in trials if t.status == "finished"), key=lambda t: t.score or 0.0, default=None)


def _changes(held: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What differs between the settings that a sweep has and those that are asked for, each by its name."""
    one, other = _flat(held), _flat(asked)
    return [
        f"{key}: {one.get(key)!r} -> {other.get(key)!r}"
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    ]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    ranges = {
        f"range of {each['name']}": f"{each['low']}:{each['high']}" for each in settings.get("space", ())
    }
    rest = {key: value for key, value in settings.items() if key not in ("space", "config")}
    return {**rest, **ranges, **settings.get("config", {})}


def _is_of(run: Run, trial: Trial) -> bool:
    """Whether `run` is of the config that `trial` had."""
    held, recipe = run.config, trial.config
    return all(held.get(k) == v for k, v in recipe.items() if k not in (*NOT_THE_EXPERIMENT, *BESIDE))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(
            f"{path} is damaged or missing ({error}). Remove it where it is a trial's, which is run again; "
            "otherwise start anew with --overwrite."
        ) from error
