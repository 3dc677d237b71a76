"""TeacherLogits: the teachers' logits, computed once and stored for every student, seed and run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kapp.callbacks import LoadTeacherLogits
from kapp.data import Augmentation, Dataset, sources
from kapp.data.augmentation import augment
from kapp.distributed import shard_batch
from kapp.errors import ConfigError, KappError
from kapp.fileio import atomic_file, checksum, folder_lock, make_folder, write_text
from kapp.models import keras_file
from kapp.progress import ProgressLine
from kapp.training.backends import backend
from kapp.training.teacher_ensemble import TeacherEnsemble, check_ensemble, frozen_copy, num_classes

MAX_BYTES = 2**31  # of a store; CIFAR-100 with its 162 views takes 1.3e9
BATCH_SIZE = 500  # always whole batches: the logits of an image mustn't depend on the images computed with it
FORMAT = 2  # raise it when views, logits or the file change their meaning


class TeacherLogits:
    """The logits of a `TeacherEnsemble` for every view of the training images and for the other images of a
    data set, as float16. Each is computed when it is first needed, and read from disk ever after (Urban et
    al. 2016 stored the averaged logits of an ensemble for 160 epochs of augmented images).

    The store is `folder`/DIGEST/logits.npy, uint16 (rows, classes + 1): the bits of the logits and a
    checksum, which is 0 where the row is missing. DIGEST is that of store.json in the same folder: the
    teachers, the data, the split, the augmentation and the backend. A teacher computes in the precision of
    its own file. Several processes may share a store: one at a time computes, and no row changes once it
    is written.

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
        teachers: Path | keras.Model | Sequence[Path | keras.Model],
        dataset: Dataset,
        augmentation: Augmentation | None = None,
        ensemble: str = "logits",
        folder: Path | None = None,
    ):
        teachers = [teachers] if isinstance(teachers, Path | keras.Model) else list(teachers)
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
            "augmentation": asdict(self.augmentation),
            "backend": keras.backend.backend(),
        }
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        self.folder = (folder or sources.home() / "teacher_logits") / digest[:32]
        self.file = self.folder / "logits.npy"
        # A training image has one row per view, another image has one row.
        self._row_counts = np.ones(len(dataset.images), np.int64)
        self._row_counts[dataset.train.samples] = self.augmentation.count
        self._first_row = np.cumsum(self._row_counts) - self._row_counts

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the stored array."""
        return int(self._row_counts.sum()), self.num_classes + 1

    @property
    def size(self) -> int:
        """Bytes on disk from the first row on: (training images * views + other images) * (classes + 1) * 2,
        which is 143 MB for CIFAR-10."""
        return self.shape[0] * self.shape[1] * 2

    @property
    def fits(self) -> bool:
        """Whether the store is small enough: at most `MAX_BYTES`."""
        return self.size <= MAX_BYTES

    @property
    def exists(self) -> bool:
        """Whether the store exists; its teachers were checked then."""
        return self.file.is_file()

    def get(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The logits for the views `view` of the images `sample`; computes those that are missing.

        Args:
            sample, view: integers (n,). Only training images have views other than the identity.

        Returns:
            float16 (n, classes).

        Raises:
            KappError: the store is damaged or can't be written; a teacher's file is damaged or has changed;
                or a logit isn't finite.
            ConfigError: a teacher doesn't fit the data set.
        """
        number = self._row_numbers(sample, view)
        rows = self._read_rows(number)
        if _missing(rows).any():
            make_folder(self.folder)
            waiting = f"waiting for another process that computes the same teacher logits ({self.folder})"
            with folder_lock(self.folder, waiting):
                rows = self._fill_missing(number, sample, view)
        return rows[:, :-1].view(np.float16)

    def _row_numbers(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        in_training = self._row_counts[sample] == self.augmentation.count
        if not (in_training | (view == self.augmentation.identity)).all():
            raise ConfigError(
                "teacher logits of an image that isn't for training exist for its identity view only."
            )
        return self._first_row[sample] + np.where(in_training, view, 0)

    def _read_rows(self, number: np.ndarray) -> np.ndarray:
        if not self.exists:
            return np.zeros((len(number), self.shape[1]), np.uint16)
        return np.asarray(self._open("r")[number])

    def _fill_missing(self, number: np.ndarray, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """Compute the rows that are missing and return all; the caller has the lock."""
        if not self.exists:
            self._create()
        table = self._open("r+")
        rows = np.asarray(table[number])
        missing = np.flatnonzero(_missing(rows))
        # Nobody else writes now: a row with a checksum must be complete.
        if rows[missing, -1].any():
            raise KappError(self._damaged("a row isn't what was written"))
        progress = ProgressLine("teacher logits", len(missing), "views")
        for start in range(0, len(missing), BATCH_SIZE):
            part = missing[start : start + BATCH_SIZE]
            bits = self._compute(sample[part], view[part]).view(np.uint16)
            table[number[part], :-1] = bits
            table[number[part], -1] = _row_checksum(bits)  # last: a kill before it leaves the rows missing
            progress(start + len(part))
        return np.asarray(table[number])

    def _compute(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The teachers' logits, float16 (n, classes) for n up to `BATCH_SIZE`."""
        if self._model is None:
            self._model = _AugmentedTeachers(
                TeacherEnsemble(self._networks(), self.ensemble), self.augmentation
            )
        batch = {
            "images": self.dataset.images[np.resize(sample, BATCH_SIZE)],
            "view": np.resize(view, BATCH_SIZE).astype(np.int32),
        }
        logits = np.asarray(self._model.predict_on_batch(batch), np.float32)[: len(sample)]
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

    def _create(self) -> None:
        write_text(self.folder / "store.json", json.dumps(self._key, indent=2) + "\n")
        with atomic_file(self.file) as partial:
            np.save(partial, np.zeros(self.shape, np.uint16))  # not sparse: a full disk shows here, not later

    def _open(self, mode: Any) -> np.ndarray:
        try:
            table = np.load(self.file, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise KappError(self._damaged(error)) from error
        if table.shape != self.shape or table.dtype != np.uint16:
            raise KappError(self._damaged(f"{table.dtype} {table.shape} instead of uint16 {self.shape}"))
        return table

    def _damaged(self, reason: Any) -> str:
        return (
            f"the teacher logits in {self.file} are damaged ({reason}). "
            "Delete that file; the next run computes them again."
        )


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
        self._rows[sample] = self.cache.get(sample, view)
        backend.assign(learner, self.rows, self._rows)

    def fit_callbacks(self, **settings: Any) -> list[keras.callbacks.Callback]:
        return [LoadTeacherLogits(self, augmentation=self.cache.augmentation, **settings)]


class _AugmentedTeachers(keras.Model):
    """A TeacherEnsemble that takes views of images in host memory, compiled to predict."""

    def __init__(self, teachers: TeacherEnsemble, augmentation: Augmentation):
        super().__init__(name="augmented_teachers", dtype="float32")
        self.teachers, self.augmentation = teachers, augmentation
        self.built = True
        self.compile(jit_compile=backend.inference_jit(teachers))

    def call(self, batch: dict[str, Any]) -> Any:
        return self.teachers(augment(batch["images"], batch["view"], self.augmentation))


def _missing(rows: np.ndarray) -> np.ndarray:
    """Which of the stored rows (n, classes + 1) aren't complete: bool (n,)."""
    return rows[:, -1] != _row_checksum(rows[:, :-1])


def _row_checksum(bits: np.ndarray) -> np.ndarray:
    """A checksum for each row of `bits`, uint16 (n, classes): never 0, and another one where one bit
    changed."""
    weights = np.arange(1, bits.shape[1] + 1, dtype=np.int64)
    return (1 + bits.astype(np.int64) @ weights % 65521).astype(np.uint16)


def _snapshot(teacher: Path | keras.Model, classes: int) -> Path | keras.Model:
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
