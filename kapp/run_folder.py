"""The run folder: the only reader and writer of its files.

config.json        the recipe's name and its settings, complete enough to run again
environment.json   versions, backend, device, threads, git commit, data checksum
metrics.csv        one row per epoch, or per validation
model.keras        the network alone, at its best validation accuracy
checkpoints/       what an exact resume needs
confusion.csv      test images counted by true class (rows) and predicted class (columns)
predictions.npz    logits of the test and validation images
result.json        the row that reports read; its presence means that the run is finished
figures/           what people look at
report.md          the report of this run
export/            the network in other formats, written by kapp export
linear_probe/      of a transfer: the run folder of its first phase
"""

import csv
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kapp import distributed, records
from kapp.errors import ConfigError, KappError
from kapp.fileio import atomic_file, folder_lock, make_folder, write_text
from kapp.records import Environment, RunConfig, RunResult

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path("runs")
START_AGAIN = "Start again with --overwrite."
# Settings that change where and how a run is computed, but not what it computes.
NOT_IN_IDENTITY = (
    "out", "overwrite", "data_dir", "image_storage", "devices", "coordinator", "process_id",
    "num_processes",
)  # fmt: skip
# Settings that are younger than some runs, and their values that change nothing. With these values they are
# no part of the identity: a run that was made before them is found.
ADDED_SETTINGS = {
    "crop_scale": 1.0, "hue": 0.0, "saturation": 0.0, "brightness": 0.0, "random_erasing": 0.0, "mixup": 0.0,
    "cutmix": 0.0, "labeled": None, "unlabeled": None,
}  # fmt: skip
FILES = ("config.json environment.json metrics.csv model.keras confusion.csv predictions.npz result.json "
         "report.md").split()  # fmt: skip


class Predictions(NamedTuple):
    """`predictions.npz`: what the scored network predicts, so that two runs can be compared image by image.

    Samples are indices into the whole data set. Validation arrays have 0 rows without validation images.
    In a report's copy of a run they and `test_logits` have 0 rows.
    """

    test_samples: np.ndarray  # int32 (n,)
    test_labels: np.ndarray  # int32 (n,)
    test_logits: np.ndarray  # float16 (n, classes)
    test_classes: np.ndarray  # int32 (n,): argmax of the logits before they were rounded to float16
    validation_samples: np.ndarray
    validation_labels: np.ndarray
    validation_logits: np.ndarray
    validation_classes: np.ndarray

    def test_classes_only(self) -> "Predictions":
        """What a paired test of accuracies needs: no logits, and no validation images."""
        empty = {name: getattr(self, name)[:0] for name in self._fields if name.startswith("validation_")}
        return self._replace(test_logits=self.test_logits[:0], **empty)


def default_folder(config: RunConfig, names: Sequence[str]) -> Path:
    """`runs/RECIPE-NAMES-sSEED-DIGEST`: one folder per experiment: settings and data."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()
    words = "-".join([config.recipe, *map(file_name, names)])
    return ROOT / f"{words}-s{config.settings['seed']}-{digest[:6]}"


def file_name(name: str) -> str:
    """A network's or data set's name in a folder's name: cifar100_class1; mine for npz:to/mine.npz."""
    return Path(name).stem.replace(":", "_")


def identity(config: RunConfig) -> dict:
    """The part of `config` that decides what is computed, as JSON values."""
    return identity_settings(records.to_json(config))


def identity_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` without those of the place and the hardware of a computation, and without younger settings
    that are off."""
    return {
        key: value
        for key, value in settings.items()
        if key not in NOT_IN_IDENTITY and not (key in ADDED_SETTINGS and value == ADDED_SETTINGS[key])
    }


def is_finished(folder: Path | str, config: RunConfig) -> bool:
    """Whether `folder` is the finished run of `config`."""
    run = Path(folder)
    if not ((run / "config.json").is_file() and (run / "result.json").is_file()):
        return False
    return identity(Run(run).config) == identity(config)


class Run:
    """One run folder, opened to read. `Run.open` opens one to write.

    Args:
        folder: the folder of a run, finished or not.

    Raises:
        ConfigError: `folder` is not a run folder.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not self.config_file.is_file():
            raise ConfigError(
                f"{self.folder} is not a run folder: it has no config.json. "
                "Give the folder that a recipe printed as its run."
            )

    @classmethod
    @contextmanager
    def open(cls, folder: Path | str, config: RunConfig, overwrite: bool = False) -> Iterator["Run"]:
        """Open `folder` for the run of `config`: new, to be resumed, or finished already.

        Other commands that open it wait until this block ends. Processes that train together share it: the
        first writes, the others read.

        Args:
            folder: created if it doesn't exist.
            overwrite: delete an earlier run in the folder first.

        Raises:
            ConfigError: the folder has other files, or the run of another config.
            KappError: the folder can't be written.
        """
        distributed.run_on_primary(lambda: cls.create(folder, config, overwrite))
        run = cls(folder)
        distributed.run_on_all(lambda: run.check_config(config))  # all have the same settings and data
        with run.lock() if distributed.is_primary() else nullcontext():
            yield run

    @classmethod
    def create(cls, folder: Path | str, config: RunConfig, overwrite: bool = False) -> "Run":
        """As `open`, without keeping other processes out."""
        folder = Path(folder)
        config_file = folder / "config.json"
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file, not a folder. Choose another --out.")
        make_folder(folder)
        # A file that a killed process left half written begins with a dot.
        if not config_file.is_file() and any(not each.name.startswith(".") for each in folder.iterdir()):
            raise ConfigError(
                f"{folder} contains files but no run: nothing was changed. Choose another --out."
            )
        if overwrite:
            with folder_lock(folder, _waiting(folder)):
                _delete_files(folder)
        if config_file.is_file():
            cls(folder).check_config(config)
        else:
            records.write(config, config_file)
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "figures").mkdir(exist_ok=True)
        return cls(folder)

    def check_config(self, config: RunConfig) -> None:
        """Raise unless this is the run of `config`.

        Raises:
            ConfigError: it is another run; the message lists what differs.
        """
        stored, wanted = identity(self.config), identity(config)
        changes = [
            f"{key}: {stored.get(key)!r} -> {wanted.get(key)!r}"
            for key in {**stored, **wanted}
            if stored.get(key) != wanted.get(key)
        ]
        if changes:
            raise ConfigError(
                f"{self.folder} contains another run ({', '.join(changes)}). Choose another --out, "
                "or --overwrite to start again."
            )

    def lock(self):
        """A context manager that waits for other processes that train in this folder, then keeps them out."""
        return folder_lock(self.folder, _waiting(self.folder))

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
    def predictions_file(self) -> Path:
        return self.folder / "predictions.npz"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.md"

    @property
    def name(self) -> str:
        """The folder's name, unique among the runs of a report."""
        is_probe = self.folder.name == "linear_probe"
        return f"{self.folder.parent.name}-linear_probe" if is_probe else self.folder.name

    @property
    def linear_probe(self) -> Path:
        """The run folder of a transfer's first phase."""
        return self.folder / "linear_probe"

    def figure(self, name: str) -> Path:
        """The file of the figure called `name`."""
        return self.folder / "figures" / f"{name}.png"

    @property
    def is_finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def config(self) -> RunConfig:
        return records.read(RunConfig, self.config_file, START_AGAIN)

    @property
    def environment(self) -> Environment:
        return records.read(Environment, self.folder / "environment.json", START_AGAIN)

    @property
    def result(self) -> RunResult:
        """The row that reports read.

        Raises:
            KappError: the run isn't finished, or the file is damaged.
        """
        if not self.is_finished:
            raise KappError(f"{self.folder} is an unfinished run. Run its command again to finish it.")
        return records.read(RunResult, self.folder / "result.json", START_AGAIN)

    def write_environment(self, environment: Environment) -> None:
        records.write(environment, self.folder / "environment.json")

    def write_result(self, result: RunResult) -> None:
        records.write(result, self.folder / "result.json")

    def write_report(self, text: str) -> None:
        write_text(self.report_file, text)

    def metrics_rows(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, one per validation.

        `epoch` is how often the training images were seen by then: 1, 2, ... with one validation per epoch.
        """
        if not self.metrics_file.is_file():
            return []
        try:
            with open(self.metrics_file, newline="", encoding="utf-8") as file:
                rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
            return [{**row, "epoch": _whole(row["epoch"])} for row in rows]
        except (OSError, TypeError, ValueError, KeyError) as error:
            raise KappError(f"{self.metrics_file} is damaged ({error}). {START_AGAIN}") from error

    def metrics(self) -> "pd.DataFrame":
        """`metrics.csv` as a table."""
        import pandas as pd

        return pd.DataFrame(self.metrics_rows())

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace `metrics.csv` by `rows`, which share their columns."""
        columns = list(rows[0]) if rows else ["epoch"]
        self._write_csv(self.metrics_file, [columns, *([row[name] for name in columns] for row in rows)])

    def confusion(self) -> "pd.DataFrame":
        """Counts of test images: one row per true class, one column per predicted class."""
        import pandas as pd

        path = self.folder / "confusion.csv"
        try:  # not by pandas, as a class may be called "nan" or "true"
            with open(path, newline="", encoding="utf-8") as file:
                (_, *predicted), *rows = csv.reader(file)
            counts = [[int(count) for count in row[1:]] for row in rows]
            return pd.DataFrame(counts, pd.Index([row[0] for row in rows], name="true"), predicted)
        except (OSError, ValueError) as error:
            raise KappError(f"{path} is damaged or missing ({error}). {START_AGAIN}") from error

    def write_confusion(self, counts: Iterable[Iterable[int]], classes: Sequence[str]) -> None:
        """Write the counts of test images, (classes, classes), by true and predicted class."""
        rows = [[name, *map(int, row)] for name, row in zip(classes, counts)]
        self._write_csv(self.folder / "confusion.csv", [["true", *classes], *rows])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of a finished run's network, in the order of its logits."""
        return tuple(map(str, self.confusion().columns))

    def predictions(self) -> Predictions | None:
        """What the scored network predicts; None where the folder has no `predictions.npz`.

        Raises:
            KappError: the file is damaged.
        """
        if not self.predictions_file.is_file():
            return None
        try:
            with np.load(self.predictions_file, allow_pickle=False) as file:
                return Predictions(*(file[name] for name in Predictions._fields))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise KappError(f"{self.predictions_file} is damaged ({error}). {START_AGAIN}") from error

    def write_predictions(self, predictions: Predictions) -> None:
        with atomic_file(self.predictions_file) as partial:
            np.savez_compressed(partial, **predictions._asdict())

    def copy_results(self, folder: Path) -> None:
        """Copy to `folder` what a report needs of this run: all but the network and the figures.

        Settings that only say where and how it was computed are left out. Of the predictions the classes of
        the test images are copied: without logits, which take thirty times the space.
        """
        if folder.resolve() == self.folder.resolve():
            return
        make_folder(folder)
        write_text(folder / "config.json", json.dumps(identity(self.config), indent=2) + "\n")
        for name in ("environment.json", "result.json", "metrics.csv", "confusion.csv"):
            write_text(folder / name, (self.folder / name).read_text(encoding="utf-8"))
        if (predictions := self.predictions()) is not None:
            Run(folder).write_predictions(predictions.test_classes_only())

    def delete_weights(self) -> None:
        """Delete the network and its checkpoint, most of the folder's size; settings and metrics stay."""
        for folder in (self.folder, self.linear_probe):
            for path in (folder / "model.keras", folder / "checkpoints" / "latest.npz"):
                path.unlink(missing_ok=True)

    @staticmethod
    def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
        with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def _waiting(folder: Path) -> str:
    return f"waiting for another process that trains in {folder}"


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _delete_files(folder: Path) -> None:
    """Delete what a run writes, and nothing else that somebody may keep there."""
    for path in (
        *(folder / name for name in FILES),
        *(folder / "checkpoints").glob("*.npz"),
        *(folder / "figures").glob("*.png"),
    ):
        path.unlink(missing_ok=True)
    for manifest in (folder / "export").glob("*/manifest.json"):  # exports of the deleted network
        shutil.rmtree(manifest.parent)
    with suppress(OSError):  # it doesn't exist, or has other files
        (folder / "export").rmdir()
