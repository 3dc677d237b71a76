"""TeacherLogits: the teachers' logits, computed once and stored for every student, seed and run."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kapp.callbacks import LoadTeacherLogits
from kapp.data import Augmentation, Dataset, pipelines, sources
from kapp.data.augmentation import augment_batch
from kapp.data.pipelines import Batch
from kapp.distributed import shard_batch
from kapp.errors import ConfigError, KappError
from kapp.fileio import (
    atomic_file,
    checksum,
    folder_lock,
    is_file,
    make_folder,
    write_array,
    write_text,
)
from kapp.models import keras_file
from kapp.progress import ProgressLine
from kapp.training.backends import backend
from kapp.training.teacher_ensemble import TeacherEnsemble, check_ensemble, frozen_copy, num_classes

MAX_BYTES = 2**31  # of a store; CIFAR-100 with its 162 views takes 1.3e9
BATCH_SIZE = 500  # always whole batches: the logits of an image mustn't depend on the images computed with it
FORMAT = 3  # raise it when views, logits or the file change their meaning


class TeacherLogits:
    """The logits of a `TeacherEnsemble` for every view of the training images and for the other images of a
    data set, as float16. Each is computed when it is first needed, and read from disk ever after (Urban et
    al. 2016 stored the averaged logits of an ensemble for 160 epochs of augmented images).

    The store is `folder`/DIGEST/logits.npy, uint16 (rows, classes + 1): the bits of the logits and a
    checksum, which is 0 where the row is missing. The checksum also depends on the file's name, so that a
    file in a wrong place is detected. DIGEST is that of store.json in the same folder: the teachers, the
    data, the split, the augmentation and the backend. A teacher computes in the precision of its own file.
    Several processes may share a store: one at a time computes, and no row changes once it is written.

    Where views don't come again (`Augmentation.repeats` is False), logits.npy has one row per image, and each
    epoch has a file of its own, seed_SEED/epoch_EPOCH.npy, with one row per position of its plan. All
    students and losses of a seed share it.

    Args:
        teachers: one or several run folders or .keras files, which are loaded only when a row is missing; or
            networks, as for `TeacherEnsemble`.
        dataset, augmentation: as for `Learner`.
        ensemble: as for `TeacherEnsemble`.
        folder: teacher_logits/ in the data cache by default.

    Raises:
        ConfigError: there is no teacher, or as `TeacherEnsemble` does.
    """

    def __init__(
        self,
        teachers: str | Path | keras.Model | Sequence[str | Path | keras.Model],
        dataset: Dataset,
        augmentation: Augmentation | None = None,
        ensemble: str = "logits",
        folder: Path | None = None,
    ):
        teachers = [teachers] if isinstance(teachers, str | Path | keras.Model) else list(teachers)
        if not teachers:
            raise ConfigError("TeacherLogits needs at least one teacher.")
        check_ensemble(ensemble)
        self.dataset, self.augmentation, self.ensemble = dataset, augmentation or Augmentation(), ensemble
        self.num_classes = len(dataset.classes)
        self._teachers = [_snapshot(teacher, self.num_classes) for teacher in teachers]
        self._teachers_sha256 = [_sha256(teacher) for teacher in self._teachers]
        self._model: keras.Model | None = None
        self._key = {
            "format": FORMAT,
            "teachers_sha256": self._teachers_sha256,
            "ensemble": ensemble if len(teachers) > 1 else None,
            "data_sha256": dataset.checksum,
            "train_sha256": hashlib.sha256(dataset.train.samples.tobytes()).hexdigest(),
            "augmentation": self.augmentation.settings,
            "backend": keras.backend.backend(),
        }
        if not self.augmentation.repeats and self.augmentation.flip_order != "random":
            self._key["flip_order"] = self.augmentation.flip_order  # a row is a position of the plan
        if dataset.unlabeled_sha256 is not None:
            self._key["unlabeled_sha256"] = dataset.unlabeled_sha256
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        self.folder = (folder or sources.home() / "teacher_logits") / digest[:32]
        self.file = self.folder / "logits.npy"
        # A training image has one row per numbered view, another image has one row.
        self._has_views = np.zeros(len(dataset.images), bool)
        self._has_views[dataset.train.samples] = self.augmentation.repeats
        counts = np.where(self._has_views, self.augmentation.count, 1).astype(np.int64)
        self._first_row = np.cumsum(counts) - counts
        self._table = _Table(self.file, self.folder, (int(counts.sum()), self.num_classes + 1))

    def size(self, epochs: int) -> int:
        """The bytes on disk after `epochs` epochs of one seed.

        Where views come again: (training images * views + other images) * (classes + 1) * 2 from the first
        row on, which is 143 MB for CIFAR-10. Where they don't: (images + training images * epochs) *
        (classes + 1) * 2, which is 265 MB after 300 epochs.
        """
        planned = 0 if self.augmentation.repeats else len(self.dataset.train) * epochs
        rows, columns = self._table.shape
        return (rows + planned) * columns * 2

    def fits(self, epochs: int) -> bool:
        """Whether the store of `epochs` epochs is small enough: at most `MAX_BYTES`."""
        return self.size(epochs) <= MAX_BYTES

    @property
    def exists(self) -> bool:
        """Whether the store exists; its teachers were checked then."""
        return is_file(self.file)

    def get(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The logits for the numbered views `view` of the images `sample`; computes those that are missing.

        Args:
            sample, view: integers (n,). Only training images have views other than the identity, and only
                where views come again.

        Returns:
            float16 (n, classes).

        Raises:
            KappError: the store is damaged or can't be written; a teacher's file is damaged or has changed;
                or a logit isn't finite.
            ConfigError: a teacher doesn't fit the data set.
        """
        batch = {"sample": sample, "view": view.astype(np.int32)}
        return self._get(self._table, self._row_numbers(sample, view), batch)

    def get_epoch(self, seed: int, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` samples of an epoch plan, and the logits for their views; computes those that are
        missing.

        Args:
            seed, epoch: as for `sampling.epoch_plan`.

        Returns:
            int32 (count,) and float16 (count, classes).

        Raises:
            KappError, ConfigError: as `get`.
        """
        train = self.dataset.train.samples
        plan = pipelines.epoch_batch(train, seed, epoch, self.augmentation)
        batch = {name: column[:count] for name, column in plan.items()}
        if self.augmentation.repeats:
            return batch["sample"], self.get(batch["sample"], batch["view"])
        file = self.folder / f"seed_{seed}" / f"epoch_{epoch:04d}.npy"
        table = _Table(file, self.folder, (len(train), self.num_classes + 1))
        return batch["sample"], self._get(table, np.arange(count), batch)

    def _row_numbers(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The rows of logits.npy for numbered views."""
        has_views = self._has_views[sample]
        if not (has_views | (view == self.augmentation.identity)).all():
            raise ConfigError(
                "teacher logits of an image that isn't for training exist for its identity view only."
            )
        return self._first_row[sample] + np.where(has_views, view, 0)

    def _get(self, table: "_Table", number: np.ndarray, batch: Batch) -> np.ndarray:
        """The logits in the rows `number` of `table`, which are those of the views in `batch`."""
        rows = table.read(number)
        if table.missing(rows).any():
            make_folder(self.folder)
            waiting = f"waiting for another process that computes the same teacher logits ({self.folder})"
            with folder_lock(self.folder, waiting):
                rows = self._fill_missing(table, number, batch)
        return rows[:, :-1].view(np.float16)

    def _fill_missing(self, table: "_Table", number: np.ndarray, batch: Batch) -> np.ndarray:
        """Compute the rows that are missing and return all; the caller has the lock."""
        description = self.folder / "store.json"
        if not description.is_file():
            write_text(description, json.dumps(self._key, indent=2) + "\n")
        array = table.open_or_create()
        rows = np.asarray(array[number])
        missing = np.flatnonzero(table.missing(rows))
        # Nobody else writes now: a row with a checksum must be complete.
        if rows[missing, -1].any():
            raise KappError(table.damaged("a row isn't what was written, or it is the file of other logits"))
        progress = ProgressLine("teacher logits", len(missing), "views")
        for start in range(0, len(missing), BATCH_SIZE):
            part = missing[start : start + BATCH_SIZE]
            bits = self._compute({name: column[part] for name, column in batch.items()}).view(np.uint16)
            array[number[part], :-1] = bits
            # Last: a kill before it leaves the rows missing.
            array[number[part], -1] = table.row_checksum(bits)
            progress(start + len(part))
        return np.asarray(array[number])

    def _compute(self, batch: Batch) -> np.ndarray:
        """The teachers' logits for the views in `batch`, float16 (n, classes) for n up to `BATCH_SIZE`."""
        if self._model is None:
            self._model = _AugmentedTeachers(
                TeacherEnsemble(self._networks(), self.ensemble), self.augmentation
            )
        count = len(batch["sample"])
        whole = {name: column[np.resize(np.arange(count), BATCH_SIZE)] for name, column in batch.items()}
        whole = pipelines.with_images(whole, self.dataset.images)
        logits = np.asarray(self._model.predict_on_batch(whole), np.float32)[:count]
        if not np.isfinite(logits).all():
            raise KappError(
                "a teacher's logits are NaN or infinite. Choose another teacher, or train it again."
            )
        largest = np.finfo(np.float16).max
        return logits.clip(-largest, largest).astype(np.float16)

    def _networks(self) -> list[keras.Model]:
        networks = []
        for teacher, sha256 in zip(self._teachers, self._teachers_sha256):
            if isinstance(teacher, Path):
                path, teacher = (
                    teacher,
                    keras_file.load(teacher, self.dataset.image_shape, self.dataset.classes),
                )
                if _sha256(path) != sha256:
                    raise KappError(
                        f"teacher {path} has changed since this run began. Run the command again."
                    )
            networks.append(teacher)
        return networks


class _Table:
    """A file of rows of logits.

    Args:
        file: an .npy file, which may not exist. Rows of a file with another name or in another folder don't
            fit it.
        folder: the store, in which the file is.
        shape: (rows, classes + 1).
    """

    def __init__(self, file: Path, folder: Path, shape: tuple[int, int]):
        self._file, self.shape = file, shape
        place = f"{folder.name}/{file.relative_to(folder).as_posix()}"
        self._salt = int.from_bytes(hashlib.sha256(place.encode()).digest()[:4])

    def read(self, number: np.ndarray) -> np.ndarray:
        """The rows `number`, uint16 (n, classes + 1): 0 where they are missing."""
        if not self._file.is_file():
            return np.zeros((len(number), self.shape[1]), np.uint16)
        return np.asarray(self._open("r")[number])

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows (n, classes + 1) aren't complete: bool (n,)."""
        return rows[:, -1] != self.row_checksum(rows[:, :-1])

    def row_checksum(self, bits: np.ndarray) -> np.ndarray:
        """A checksum for each row of `bits`, uint16 (n, classes): never 0, and another one where one bit
        changed or the file is another one."""
        weights = np.arange(1, bits.shape[1] + 1, dtype=np.int64)
        return (1 + (self._salt + bits.astype(np.int64) @ weights) % 65521).astype(np.uint16)

    def open_or_create(self) -> np.ndarray:
        """All rows, to be written."""
        if not self._file.is_file():
            make_folder(self._file.parent)
            with atomic_file(self._file) as partial:
                # Not sparse: a full disk shows here, not later.
                write_array(partial, np.zeros(self.shape, np.uint16))
        return self._open("r+")

    def damaged(self, reason: Any) -> str:
        return (
            f"the teacher logits in {self._file} are damaged ({reason}). "
            "Delete that file; the next run computes them again."
        )

    def _open(self, mode: Any) -> np.ndarray:
        try:
            array = np.load(self._file, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise KappError(self.damaged(error)) from error
        if array.shape != self.shape or array.dtype != np.uint16:
            raise KappError(self.damaged(f"{array.dtype} {array.shape} instead of uint16 {self.shape}"))
        return array


class CachedTeacher(keras.layers.Layer):
    """The teacher of a Distiller whose logits are cached: a table on the device with one row per image, for
    the view in which the image comes next. Where no row was loaded, the loss is NaN."""

    def __init__(self, cache: TeacherLogits):
        super().__init__(name="cached_teacher", trainable=False)
        self.cache, self.num_classes = cache, cache.num_classes
        self._rows = np.full((len(cache.dataset.images), cache.num_classes), np.nan, np.float16)
        self.rows = keras.Variable(
            self._rows, dtype="float16", trainable=False, autocast=False, name="teacher_logits"
        )
        self.built = True

    def training_data(self, dataset: Any, augmentation: Any) -> tuple[Any, Any]:
        """The data set and augmentation of the cache.

        Raises:
            ConfigError: `dataset` or `augmentation` is another one.
        """
        own = self.cache.dataset, self.cache.augmentation
        if (dataset is not None and dataset is not own[0]) or augmentation not in (None, own[1]):
            raise ConfigError(
                "the TeacherLogits are for another data set or augmentation: leave these arguments out."
            )
        return own

    def logits(self, x: Any, images: Any) -> Any:
        """Logits (n, classes) for the batch of indices `x`."""
        if not isinstance(x, dict):
            raise ConfigError(
                "TeacherLogits are for the data set's own images: train on batches of indices "
                "(kapp.data.pipelines), or pass the teacher's network to train on other images."
            )
        return ops.cast(ops.take(self.rows, shard_batch(x)["sample"], axis=0), "float32")

    def load(self, learner: keras.Model, sample: np.ndarray, view: np.ndarray) -> None:
        """Load the logits of these views for the steps that follow; the rows of other images stay.

        Args:
            learner: the Distiller.
            sample, view: integers (n,), each sample once.

        Raises:
            ConfigError, KappError: as `TeacherLogits.get` does.
        """
        self._load(learner, sample, self.cache.get(sample, view))

    def load_epoch(self, learner: keras.Model, seed: int, epoch: int, count: int) -> None:
        """Load the logits for the first `count` views of an epoch plan.

        Args:
            learner: the Distiller.
            seed, epoch: as for `TeacherLogits.get_epoch`.

        Raises:
            ConfigError, KappError: as `TeacherLogits.get` does.
        """
        self._load(learner, *self.cache.get_epoch(seed, epoch, count))

    def _load(self, learner: keras.Model, sample: np.ndarray, logits: np.ndarray) -> None:
        self._rows[sample] = logits
        backend.assign(learner, self.rows, self._rows)

    def fit_callbacks(self, samples: np.ndarray, **settings: Any) -> list[keras.callbacks.Callback]:
        """The callback that loads the logits before each epoch; arguments as for `Learner.fit_callbacks`."""
        if not np.array_equal(samples, self.cache.dataset.train.samples):
            raise ConfigError("TeacherLogits are for all training images of the data set: train on these.")
        return [LoadTeacherLogits(self, len(samples), augmentation=self.cache.augmentation, **settings)]


class _AugmentedTeachers(keras.Model):
    """A TeacherEnsemble that takes batches of indices with their images, compiled to predict."""

    def __init__(self, teachers: TeacherEnsemble, augmentation: Augmentation):
        super().__init__(name="augmented_teachers", dtype="float32")
        self.teachers, self.augmentation = teachers, augmentation
        self.built = True
        self.compile(jit_compile=backend.inference_jit(teachers))

    def call(self, batch: dict[str, Any]) -> Any:
        return self.teachers(augment_batch(batch, self.augmentation))


def _snapshot(teacher: str | Path | keras.Model, classes: int) -> Path | keras.Model:
    """A copy of a network: its logits may be computed after the caller has trained it further."""
    if not isinstance(teacher, keras.Model):
        return Path(teacher)
    if num_classes(teacher, "teacher") != classes:
        raise ConfigError(
            f"teacher {teacher.name!r} has {num_classes(teacher, 'teacher')} classes, "
            f"the data set has {classes}: they must be the same."
        )
    return frozen_copy(teacher)


def _sha256(teacher: Path | keras.Model) -> str:
    """The SHA-256 of a file, or of a network's layers and weights."""
    if isinstance(teacher, Path):
        return checksum(keras_file.path(teacher))
    digest = hashlib.sha256(teacher.to_json().encode())
    for variable in teacher.variables:
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()
