"""The run folder: the only reader and writer of its files.

config.json        the recipe's name and its settings, complete enough to run again
environment.json   versions, backend, device, threads, git commit, data checksum
metrics.csv        one row per epoch, or per validation
model.keras        the network alone, at its best validation accuracy
checkpoints/       what an exact resume needs: latest.npz, and previous.npz in case that is damaged;
                   previous.keras, the model.keras before, in case a kill came before its checkpoint
confusion.csv      test images counted by true class (rows) and predicted class (columns)
predictions.npz    logits of the test and validation images
result.json        the row that reports read, and the checksums of the files above; its presence means
                   that the run is finished
figures/           what people look at
report.md          the report of this run
export/            the network in other formats, written by kapp export
linear_probe/      of a transfer: the run folder of its first phase
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kapp import distributed, records
from kapp.errors import ConfigError, KappError
from kapp.fileio import (
    atomic_file,
    checksum,
    folder_lock,
    is_file,
    link_or_copy,
    list_folder,
    make_folder,
    read_arrays,
    refuse_file,
    write_text,
)
from kapp.records import Environment, Record, RunConfig, RunResult

if TYPE_CHECKING:
    import numpy as np
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
    "cutmix": 0.0, "labeled": None, "unlabeled": None, "flip_order": "random", "nesterov": False,
    "bias_scaler": 1.0, "label_smoothing": 0.0, "ema": 0.0,
}  # fmt: skip
COPIED = ("environment.json", "metrics.csv", "confusion.csv")  # unchanged, by `copy_results`
CHECKED = ("config.json", "model.keras", "predictions.npz", *COPIED)  # their checksums are in result.json
# In this order they are deleted: a run that lost the first one is unfinished. config.json is replaced.
FILES = ("result.json", "report.md", "model.keras", "predictions.npz", *COPIED)
METRICS = "loss accuracy val_loss val_accuracy learning_rate images_per_second seconds".split()


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

    def test_classes_only(self) -> Predictions:
        """A copy without logits and validation images, enough for a paired test of accuracies."""
        empty = {name: getattr(self, name)[:0] for name in self._fields if name.startswith("validation_")}
        return self._replace(test_logits=self.test_logits[:0], **empty)


class BegunRow(NamedTuple):
    """The part of a row of `metrics.csv` that is trained: of an epoch, or up to the next validation."""

    steps: int  # gradient steps
    seconds: float
    learning_rate: float  # of the first step


class Checkpoint(NamedTuple):
    """The state of a training."""

    metrics: Sequence[Mapping[str, float]]  # the rows of metrics.csv so far
    model_sha256: str  # of model.keras, the best network so far; "" before the first row
    # Of the network, with its random-number states, of the optimizer, and of the running metrics.
    variables: Mapping[str, np.ndarray]
    begun: BegunRow | None = None  # None: no step since the last row


def default_folder(config: RunConfig, names: Sequence[str]) -> Path:
    """`runs/RECIPE-NAMES-sSEED-DIGEST`: one folder per experiment: settings and data."""
    words = "-".join([config.recipe, *map(file_name, names)])
    return ROOT / f"{words}-s{config.settings['seed']}-{digest(config)[:6]}"


def file_name(name: str) -> str:
    """A network's or data set's name in a folder's name: cifar100_class1; mine for npz:to/mine.npz."""
    return Path(name).stem.replace(":", "_")


def identity(config: RunConfig) -> dict:
    """The part of `config` that decides what is computed, as JSON values."""
    return identity_settings(records.to_json(config))


def digest(config: RunConfig) -> str:
    """The SHA-256 of the identity of `config`, in hexadecimal."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()


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
    if not (is_file(run / "config.json") and is_file(run / "result.json")):
        return False
    return identity(Run(run).config) == identity(config)


def modification_times(folder: Path) -> list[int]:
    """The times of the files that change with each checkpoint of the run in `folder`, which need not exist
    yet, and when it is finished."""
    times = []
    for name in ("metrics.csv", "checkpoints/latest.npz", "result.json"):
        for path in (folder / name, folder / "linear_probe" / name):
            with suppress(OSError):  # a file that doesn't exist, or is being replaced
                times += [path.stat().st_mtime_ns]
    return times


class Run:
    """One run folder, opened to read. `Run.open` opens one to write.

    Args:
        folder: the folder of a run, finished or not.

    Raises:
        ConfigError: `folder` is not a run folder.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not is_file(self.config_file):
            raise ConfigError(
                f"{self.folder} is not a run folder: it has no config.json. "
                "Give the folder that a recipe printed as its run."
            )

    @classmethod
    @contextmanager
    def open(cls, folder: Path | str, config: RunConfig, overwrite: bool = False) -> Iterator[Run]:
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
        folder = Path(folder)
        with ExitStack() as stack:

            def create() -> None:
                cls._refuse_others(folder, config, overwrite)  # now, and not after the wait for the lock
                make_folder(folder)
                waiting = f"waiting for another process that trains in {folder}"
                stack.enter_context(folder_lock(folder, waiting, ("checkpoints", "figures")))
                cls.create(folder, config, overwrite)

            distributed.run_on_primary(create)
            run = cls(folder)
            distributed.run_on_all(lambda: run.check_config(config))  # all have the same settings and data
            yield run

    @classmethod
    def create(cls, folder: Path | str, config: RunConfig, overwrite: bool = False) -> Run:
        """As `open`, without keeping other processes out."""
        folder = Path(folder)
        cls._refuse_others(folder, config, overwrite)
        make_folder(folder)
        if overwrite:
            _delete_files(folder)
        if overwrite or not is_file(folder / "config.json"):
            records.write(config, folder / "config.json")
        make_folder(folder / "checkpoints")
        make_folder(folder / "figures")
        run = cls(folder)
        if run.is_finished:  # a process that was killed after it wrote the result
            run.delete_checkpoints()
        return run

    @classmethod
    def _refuse_others(cls, folder: Path, config: RunConfig, overwrite: bool) -> None:
        """Raise a ConfigError where `folder` has other files than those of a run, or another run."""
        refuse_file(folder)
        # A file that a killed process left half written begins with a dot.
        has_files = any(not each.name.startswith(".") for each in list_folder(folder))
        config_file = folder / "config.json"
        if has_files and (not is_file(config_file) or records.is_foreign(config_file, RunConfig)):
            raise ConfigError(
                f"{folder} contains files but no run: nothing was changed. Choose another --out."
            )
        if has_files and not overwrite:
            cls(folder).check_config(config)

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
    def previous_model_file(self) -> Path:
        """The model.keras before."""
        return self.folder / "checkpoints" / "previous.keras"

    @property
    def checkpoint_files(self) -> list[Path]:
        """The checkpoint, and the one before; each may be missing."""
        return [self.folder / "checkpoints" / f"{name}.npz" for name in ("latest", "previous")]

    @property
    def predictions_file(self) -> Path:
        return self.folder / "predictions.npz"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.md"

    @property
    def name(self) -> str:
        """The folder's name, unique among the runs of a report."""
        folder = Path(os.path.abspath(self.folder))  # such as "."
        return f"{folder.parent.name}-linear_probe" if folder.name == "linear_probe" else folder.name

    @property
    def linear_probe(self) -> Path:
        """The run folder of a transfer's first phase."""
        return self.folder / "linear_probe"

    @property
    def probe(self) -> Run | None:
        """The run of a transfer's first phase; None: there is none.

        Raises:
            KappError: it is of another transfer, or a file is damaged.
        """
        if not is_file(self.linear_probe / "config.json"):
            return None
        probe = Run(self.linear_probe)
        if identity(probe.config) != identity(self.config):
            raise KappError(f"{probe.folder} is of another transfer: its settings differ. {START_AGAIN}")
        return probe

    def figure(self, name: str) -> Path:
        """The file of the figure called `name`."""
        return self.folder / "figures" / f"{name}.png"

    @property
    def is_finished(self) -> bool:
        return is_file(self.folder / "result.json")

    @property
    def config(self) -> RunConfig:
        return records.read(RunConfig, self.check_file("config.json"), START_AGAIN)

    @property
    def environment(self) -> Environment:
        return records.read(Environment, self.check_file("environment.json"), START_AGAIN)

    @property
    def result(self) -> RunResult:
        """The row that reports read.

        Raises:
            KappError: the run isn't finished, or the file is damaged.
        """
        if not self.is_finished:
            raise KappError(f"{self.folder} is an unfinished run. Run its command again to finish it.")
        return records.read(RunResult, self.folder / "result.json", START_AGAIN)

    def setting(self, name: str, kind: type[Record]) -> Record:
        """The setting called `name` in config.json, a `kind`.

        Raises:
            KappError: it is missing, or of another type.
        """
        return records.setting(self.config.settings, name, kind, self.config_file)

    def check_file(self, name: str) -> Path:
        """The path of the file called `name`; that of a finished run must be as the run left it.

        Raises:
            KappError: it isn't.
        """
        path = self.folder / name
        sha256 = self.result.sha256.get(name) if self.is_finished else None
        if sha256 is not None and _checksum(path) != sha256:
            raise KappError(
                f"{path} has changed since its run ended: its SHA-256 differs. Copy it from a backup. "
                f"{START_AGAIN}"
            )
        return path

    def write_environment(self, environment: Environment) -> None:
        records.write(environment, self.folder / "environment.json")

    def write_result(self, result: RunResult) -> None:
        """Write `result` with the checksums of the other files: the run is finished."""
        paths = [self.folder / name for name in CHECKED]
        sha256 = {path.name: checksum(path) for path in paths if is_file(path)}
        records.write(dataclasses.replace(result, sha256=sha256), self.folder / "result.json")

    def write_place(self, out: str) -> None:
        """Write where the run is, into its settings; it was copied there.

        Raises:
            KappError: it is finished, and a file has changed since.
        """
        result = self.result if self.is_finished else None
        for name in result.sha256 if result else ():
            self.check_file(name)
        settings = {**self.config.settings, "out": out}
        records.write(dataclasses.replace(self.config, settings=settings), self.folder / "config.json")
        if result is not None:
            self.write_result(result)

    def write_report(self, text: str) -> None:
        write_text(self.report_file, text)

    def metrics_rows(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, one per validation.

        `epoch` is how often the training images were seen by then: 1, 2, ... with one validation per epoch.
        """
        path = self.check_file("metrics.csv")
        if not is_file(path) and not self.is_finished:
            return []
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
            return [check_metrics(row) for row in rows]
        except (OSError, TypeError, ValueError, csv.Error) as error:
            raise KappError(f"{path} is damaged or missing ({error}). {START_AGAIN}") from error

    def metrics(self) -> pd.DataFrame:
        """`metrics.csv` as a table."""
        import pandas as pd

        return pd.DataFrame(self.metrics_rows())

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace `metrics.csv` by `rows`, which share their columns."""
        columns = list(rows[0]) if rows else ["epoch"]
        self._write_csv(self.metrics_file, [columns, *([row[name] for name in columns] for row in rows)])

    def confusion(self) -> pd.DataFrame:
        """Counts of test images: one row per true class, one column per predicted class."""
        import pandas as pd

        path = self.check_file("confusion.csv")
        try:  # not by pandas, as a class may be called "nan" or "true"
            with open(path, newline="", encoding="utf-8") as file:
                (_, *predicted), *rows = csv.reader(file)
            counts = [[int(count) for count in row[1:]] for row in rows]
            names = [row[0] for row in rows]
            if names != predicted:
                raise ValueError("its rows and columns differ")
            return pd.DataFrame(counts, pd.Index(names, name="true"), predicted)
        except (OSError, ValueError, IndexError, csv.Error) as error:
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
        path = self.check_file("predictions.npz")
        if not is_file(path):
            return None
        arrays = read_arrays(path, START_AGAIN)
        try:
            predictions = Predictions(*(arrays[name] for name in Predictions._fields))
            _check_predictions(predictions)
        except (KeyError, ValueError) as error:
            raise KappError(f"{path} is damaged ({error}). {START_AGAIN}") from error
        return predictions

    def write_predictions(self, predictions: Predictions) -> None:
        import numpy as np  # here, because `--help` need not wait for it

        with atomic_file(self.predictions_file) as partial:
            np.savez_compressed(partial, **predictions._asdict())

    def keep_model(self) -> None:
        """Keep model.keras as checkpoints/previous.keras, before it is replaced."""
        if is_file(self.model_file):
            with atomic_file(self.previous_model_file) as partial:
                link_or_copy(self.model_file, partial)

    def restore_model(self, sha256: str) -> None:
        """Put the model.keras with this checksum back, where a kill left the one after it."""
        kept = self.previous_model_file
        is_lost = not is_file(self.model_file) or checksum(self.model_file) != sha256
        if is_lost and is_file(kept) and checksum(kept) == sha256:
            kept.replace(self.model_file)

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write `checkpoint`; the latest one becomes the previous one."""
        import numpy as np  # here, because `--help` need not wait for it

        latest, previous = self.checkpoint_files
        header = {
            "config": digest(self.config),
            "metrics": checkpoint.metrics,
            "model_sha256": checkpoint.model_sha256,
            "begun": checkpoint.begun,
            "variables": [*checkpoint.variables],
        }
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            **{f"variable {name}": value for name, value in checkpoint.variables.items()},
        }
        with atomic_file(latest) as partial:
            np.savez(partial, **arrays)
            if is_file(latest):
                latest.replace(previous)

    def read_checkpoint(self, path: Path) -> Checkpoint:
        """The checkpoint in the file `path`, one of `checkpoint_files`.

        Raises:
            KappError: it is damaged, or of another run.
        """
        arrays = read_arrays(path, START_AGAIN)
        try:
            header = json.loads(arrays["header"].tobytes())
            if header["config"] != digest(self.config):
                raise ValueError("it is of another run than config.json")
            rows = [check_metrics(row) for row in header["metrics"]]
            variables = {name: arrays[f"variable {name}"] for name in header["variables"]}
            begun = None if header["begun"] is None else BegunRow(*header["begun"])
            return Checkpoint(rows, header["model_sha256"], variables, begun)
        except (KeyError, TypeError, ValueError) as error:
            raise KappError(f"{path} is damaged ({error!r}). {START_AGAIN}") from error

    def check_model(self) -> None:
        """Refuse a model.keras that isn't that of the checkpoint.

        Raises:
            KappError: it isn't, or a file is damaged.
        """
        for path in filter(is_file, self.checkpoint_files):
            if _checksum(self.model_file) != self.read_checkpoint(path).model_sha256:
                raise KappError(
                    f"{self.model_file} is damaged (it isn't the network that {path.name} records). "
                    f"{START_AGAIN}"
                )
            return

    def delete_checkpoints(self) -> None:
        for path in (*self.checkpoint_files, self.previous_model_file):
            path.unlink(missing_ok=True)

    def copy_results(self, folder: Path) -> None:
        """Copy to `folder` what a report needs of this run: all but the network and the figures.

        Settings that only say where and how it was computed are left out. Of the predictions the classes of
        the test images are copied: without logits, which take thirty times the space.
        """
        if folder.resolve() == self.folder.resolve():
            return
        result, predictions = self.result, self.predictions()
        paths = [self.check_file(name) for name in COPIED]
        make_folder(folder)
        config = self.config
        copied = dataclasses.replace(config, settings=identity_settings(config.settings))
        records.write(copied, folder / "config.json")
        for path in paths:
            with atomic_file(folder / path.name) as partial:
                shutil.copyfile(path, partial)
        copy = Run(folder)
        copy.predictions_file.unlink(missing_ok=True)  # of an earlier copy
        if predictions is not None:
            copy.write_predictions(predictions.test_classes_only())
        copy.write_result(result)

    def delete_weights(self) -> None:
        """Delete the network and its checkpoints, most of the folder's size; settings and metrics stay."""
        for folder in (self.folder, self.linear_probe):
            if is_file(folder / "config.json"):
                Run(folder).model_file.unlink(missing_ok=True)
                Run(folder).delete_checkpoints()

    @staticmethod
    def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
        with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def check_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """A row of metrics.csv, whose epoch is an integer where it is whole.

    Raises:
        ValueError: a column is missing.
    """
    if missing := [name for name in ("epoch", *METRICS) if name not in row]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    epoch = float(row["epoch"])
    return {**row, "epoch": int(epoch) if epoch.is_integer() else epoch}


def _check_predictions(predictions: Predictions) -> None:
    """Raise a ValueError unless the arrays fit together."""
    for samples, labels, logits, classes in (predictions[:4], predictions[4:]):
        shapes = {samples.shape, labels.shape, classes.shape}
        if shapes != {(len(samples),)} or logits.ndim != 2 or len(logits) not in (0, len(samples)):
            raise ValueError("its arrays have other shapes")


def _checksum(path: Path) -> str:
    try:
        return checksum(path)
    except OSError as error:
        raise KappError(f"{path} is damaged or missing ({error.strerror}). {START_AGAIN}") from error


def _delete_files(folder: Path) -> None:
    """Delete what a run writes, and nothing else that somebody may keep there."""
    for path in (
        *(folder / name for name in FILES),
        *(folder / "checkpoints").glob("*.npz"),
        *(folder / "checkpoints").glob("*.keras"),
        *(folder / "figures").glob("*.png"),
    ):
        path.unlink(missing_ok=True)
    probe = folder / "linear_probe"
    if is_file(probe / "config.json"):
        removed = probe.with_name(f".{os.getpid()}-{probe.name}")  # a kill leaves no half of a run
        probe.rename(removed)
        shutil.rmtree(removed)
    for manifest in (folder / "export").glob("*/manifest.json"):  # exports of the deleted network
        shutil.rmtree(manifest.parent)
    with suppress(OSError):  # it doesn't exist, or has other files
        (folder / "export").rmdir()
