"""The run folder: the only reader and writer of its files.

config.json        the recipe's name and its config, complete enough to run again
environment.json   versions, backend, device, threads, git commit, data checksum
metrics.csv        one row an epoch
model.keras        the network alone, at its best validation accuracy
checkpoints/       what an exact resume needs
confusion.csv      test images counted by true class (rows) and predicted class (columns)
result.json        the row that reports read; its presence means that the run is finished
figures/           what people look at
report.md          what happened
export/            the network in other formats, written by kapp export
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kapp.errors import Failure, WrongValue
from kapp.files import alone, make_folder, replacing, write_text

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path("runs")
WAITING = "waiting for another process that trains in {}"
# Where a run lies and how often it was asked for doesn't change what it computes.
NOT_THE_EXPERIMENT = (
    "out", "overwrite", "quick", "data_dir", "images_on", "devices", "coordinator", "process"
)  # fmt: skip
WRITTEN = ("config.json environment.json metrics.csv model.keras confusion.csv result.json "
           "report.md").split()  # fmt: skip


def default_folder(recipe: str, names: Sequence[str], seed: int, config: Mapping) -> Path:
    """`runs/RECIPE-NAMES-sSEED-DIGEST`: the same experiment finds its folder again, no other does."""
    words = "-".join([recipe, *map(file_name, names)])
    digest = hashlib.sha256(json.dumps(experiment(config), sort_keys=True).encode()).hexdigest()
    return ROOT / f"{words}-s{seed}-{digest[:6]}"


def file_name(name: str) -> str:
    """What a folder is called after a network or a data set: cifar100_class1; mine, for npz:to/mine.npz."""
    return Path(name).stem.replace(":", "_")


def is_finished(folder: Path | str, config: Mapping) -> bool:
    """Whether `folder` holds the finished run of `config`."""
    held = Path(folder) / "config.json"
    return (
        held.is_file()
        and (Path(folder) / "result.json").is_file()
        and experiment(_read_json(held)) == experiment(config)
    )


class Run:
    """One run folder, opened to read. `Run.start` opens one to write."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not self.config_file.is_file():
            raise WrongValue(
                f"{self.folder} is not a run folder: it holds no config.json. "
                "Give the folder that a recipe printed as its run."
            )

    @classmethod
    def start(cls, folder: Path | str, config: Mapping[str, Any], overwrite: bool = False) -> "Run":
        """Open `folder` for the experiment `config`: new, to be resumed, or finished already.

        Args:
            folder: made if it isn't there.
            config: JSON-ready; `recipe` names the recipe.
            overwrite: forget what the folder holds of an earlier run.

        Raises:
            WrongValue: the folder holds something else, or a run of another config.
            Failure: the folder can't be written.
        """
        folder = Path(folder)
        config_file = folder / "config.json"
        if folder.exists() and not folder.is_dir():
            raise WrongValue(f"{folder} is a file, not a folder. Choose another --out.")
        make_folder(folder)
        # A file that a kill left half written begins with a dot.
        if not config_file.is_file() and any(not each.name.startswith(".") for each in folder.iterdir()):
            raise WrongValue(
                f"{folder} holds files but no run: nothing there was touched. Choose another --out."
            )
        if overwrite:
            with alone(folder, WAITING.format(folder)):
                _forget(folder)
        if config_file.is_file():
            _refuse_another(folder, _read_json(config_file), config)
        else:
            write_text(config_file, json.dumps(config, indent=2) + "\n")
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "figures").mkdir(exist_ok=True)
        return cls(folder)

    def refuse_another(self, config: Mapping[str, Any]) -> None:
        """Raises:
        WrongValue: the run isn't of the experiment `config`.
        """
        _refuse_another(self.folder, self.config, config)

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from training in this folder meanwhile; wait for one that is."""
        return alone(self.folder, WAITING.format(self.folder))

    @property
    def config_file(self) -> Path:
        return self.folder / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.csv"

    @property
    def model_file(self) -> Path:
        return self.folder / "model.keras"

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / "checkpoints" / "latest.npz"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.md"

    @property
    def name(self) -> str:
        """What tells it from other runs."""
        return self.folder.name if self.folder.name != "phase1" else f"{self.folder.parent.name}-phase1"

    @property
    def phase1(self) -> Path:
        """Where a transfer keeps the run of its first phase."""
        return self.folder / "phase1"

    def figure(self, name: str) -> Path:
        """Where the figure called `name` lies."""
        return self.folder / "figures" / f"{name}.png"

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def config(self) -> dict[str, Any]:
        return _read_json(self.config_file)

    @property
    def environment(self) -> dict[str, Any]:
        return _read_json(self.folder / "environment.json")

    @property
    def result(self) -> dict[str, Any]:
        """The row that reports read; accuracies are fractions.

        Raises:
            Failure: the run isn't finished, or the file is damaged.
        """
        if not self.finished:
            raise Failure(f"{self.folder} holds an unfinished run. Run its command again to finish it.")
        return _read_json(self.folder / "result.json")

    def copy_record(self, folder: Path) -> None:
        """Keep in `folder` what a report needs of this run: all but the network and the pictures, and nothing
        that says where it lay."""
        if folder.resolve() == self.folder.resolve():
            return
        make_folder(folder)
        for name in ("config.json", "environment.json", "result.json"):
            text = json.dumps(experiment(_read_json(self.folder / name)), indent=2)
            write_text(folder / name, text + "\n")
        for name in ("metrics.csv", "confusion.csv"):
            write_text(folder / name, (self.folder / name).read_text(encoding="utf-8"))

    def forget_network(self) -> None:
        """Remove the network and its checkpoint, most of the folder; what tells how it went stays."""
        for path in (self.model_file, self.checkpoint_file, self.phase1 / "model.keras"):
            path.unlink(missing_ok=True)
        (self.phase1 / "checkpoints" / "latest.npz").unlink(missing_ok=True)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        write_text(self.folder / "environment.json", json.dumps(environment, indent=2) + "\n")

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_text(self.folder / "result.json", json.dumps(result, indent=2) + "\n")

    def write_report(self, text: str) -> None:
        write_text(self.report_file, text)

    def epochs(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, one a validation; `epoch` says how often the training images were seen
        by then: 1, 2, ... where it comes once an epoch."""
        if not self.metrics_file.is_file():
            return []
        with open(self.metrics_file, newline="", encoding="utf-8") as file:
            try:
                rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
            except (TypeError, ValueError) as error:
                raise Failure(
                    f"{self.metrics_file} is damaged ({error}). Start anew with --overwrite."
                ) from error
        return [{**row, "epoch": _whole(row["epoch"])} for row in rows]

    def write_epochs(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace `metrics.csv` by `rows`, which share their columns."""
        with (
            replacing(self.metrics_file) as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, list(rows[0]) if rows else ["epoch"])
            table.writeheader()
            table.writerows(rows)

    def metrics(self) -> "pd.DataFrame":
        """`metrics.csv` as a table."""
        import pandas as pd

        return pd.DataFrame(self.epochs())

    def write_confusion(self, counts: Iterable[Iterable[int]], classes: Sequence[str]) -> None:
        """Write the counts of test images, (classes, classes), by true and predicted class."""
        with (
            replacing(self.folder / "confusion.csv") as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            table = csv.writer(file)
            table.writerow(["true", *classes])
            table.writerows([name, *map(int, row)] for name, row in zip(classes, counts))

    @property
    def data_dir(self) -> str | None:
        """The --data-dir that it was given."""
        return self.config.get("data_dir")

    @property
    def classes(self) -> tuple[str, ...]:
        """What the network of a finished run can answer, in the order of its answers."""
        return tuple(map(str, self.confusion().columns))

    def confusion(self) -> "pd.DataFrame":
        """Counts of test images, indexed by true class, one column a predicted class."""
        import pandas as pd

        path = self.folder / "confusion.csv"
        try:  # not by pandas, as a class may be called "nan" or "true"
            with open(path, newline="", encoding="utf-8") as file:
                (_, *predicted), *rows = csv.reader(file)
            counts = [[int(count) for count in row[1:]] for row in rows]
            return pd.DataFrame(counts, pd.Index([row[0] for row in rows], name="true"), predicted)
        except (OSError, ValueError) as error:
            raise Failure(f"{path} is damaged or missing ({error}). Start anew with --overwrite.") from error


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def experiment(config: Mapping) -> dict:
    """What of `config` decides what is computed."""
    return {key: value for key, value in config.items() if key not in NOT_THE_EXPERIMENT}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} is damaged or missing ({error}). Start anew with --overwrite.") from error


def _refuse_another(folder: Path, held: Mapping, asked: Mapping) -> None:
    held, asked = experiment(held), experiment(asked)
    differing = [key for key in {**held, **asked} if held.get(key) != asked.get(key)]
    if differing:
        changes = ", ".join(f"{key}: {held.get(key)!r} -> {asked.get(key)!r}" for key in differing)
        raise WrongValue(
            f"{folder} holds another run ({changes}). Choose another --out, or --overwrite to start anew."
        )


def _forget(folder: Path) -> None:
    """Remove what a run writes, and nothing else that somebody may keep there."""
    stale = [folder / name for name in WRITTEN]
    stale += [*(folder / "checkpoints").glob("*.npz"), *(folder / "figures").glob("*.png")]
    for path in stale:
        path.unlink(missing_ok=True)
    for manifest in (folder / "export").glob("*/manifest.json"):  # of the network that is forgotten
        shutil.rmtree(manifest.parent)
    with suppress(OSError):  # it isn't there, or holds something else
        (folder / "export").rmdir()
