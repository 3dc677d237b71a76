"""What teachers answer, computed once and kept on disk for every student, seed and run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kapp.data import Dataset, Views, sources
from kapp.data.views import seen
from kapp.errors import Failure, WrongValue
from kapp.files import alone, checksum, make_folder, replacing, write_text
from kapp.training import pretrained, steps
from kapp.training.teachers import Teachers, check_ensemble, classes
from kapp.words import Countdown

LARGEST = 2**31  # bytes of a store: CIFAR-100 with its 162 views takes 1.3e9
BULK = 500  # images at once, and always as many: an answer mustn't depend on what else is asked
FORMAT = 1  # to be raised when views, answers or the file come to mean something else


class TeacherAnswers:
    """The answers of `Teachers` to every view of the training images of `dataset` and to its other images as
    they are: float16 logits, each computed when it is first asked for, in bulk, and read from disk ever after
    (Urban et al. 2016 stored the averaged logits of an ensemble for 160 epochs of augmented images).

    They lie in `folder`/DIGEST/answers.npy, uint16 (rows, classes + 1): the bits of the logits and a check
    number, 0 where the answer is still missing. DIGEST is that of store.json beside it: the teachers, the
    data, the split, the views and the backend. In what precision a teacher computes is its own file's matter.
    Processes may share it: one at a time computes, and no answer changes once it is there.

    Args:
        teachers: one or several run folders or .keras files, loaded only when an answer is missing; or
            networks, as for `Teachers`.
        dataset, views: as for `Learner`.
        ensemble: as for `Teachers`.
        folder: answers/ in the data cache by default.

    Raises:
        WrongValue: no teacher, or as `Teachers` does.
    """

    def __init__(
        self,
        teachers: Path | keras.Model | Sequence[Path | keras.Model],
        dataset: Dataset,
        views: Views | None = None,
        ensemble: str = "logits",
        folder: Path | None = None,
    ):
        teachers = [teachers] if isinstance(teachers, Path | keras.Model) else list(teachers)
        if not teachers:
            raise WrongValue("TeacherAnswers needs at least one teacher.")
        check_ensemble(ensemble)
        self.dataset, self.views, self.ensemble = dataset, views or Views(), ensemble
        self.classes = len(dataset.classes)
        self._given = [_copied(teacher, self.classes) for teacher in teachers]
        self._model: keras.Model | None = None
        self._teachers_sha256 = [_digest(teacher) for teacher in self._given]
        self._key = {
            "format": FORMAT,
            "teachers_sha256": self._teachers_sha256,
            "ensemble": ensemble if len(teachers) > 1 else None,
            "data_sha256": dataset.checksum,
            "train_sha256": hashlib.sha256(dataset.train.samples.tobytes()).hexdigest(),
            "views": asdict(self.views),
            "backend": keras.backend.backend(),
        }
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        self.folder = (folder or sources.home() / "answers") / digest[:32]
        self.file = self.folder / "answers.npy"
        # A training image has a row a view, any other image one row.
        self._views_of = np.ones(len(dataset.images), np.int64)
        self._views_of[dataset.train.samples] = self.views.count
        self._first_row = np.cumsum(self._views_of) - self._views_of

    @property
    def shape(self) -> tuple[int, int]:
        """Of the stored array."""
        return int(self._views_of.sum()), self.classes + 1

    @property
    def size(self) -> int:
        """Bytes on disk, from the first answer on: (training images * views + other images) * (classes + 1)
        * 2; 143 MB for CIFAR-10."""
        return self.shape[0] * self.shape[1] * 2

    @property
    def storable(self) -> bool:
        """Whether they are few enough to be stored: at most LARGEST bytes."""
        return self.size <= LARGEST

    @property
    def begun(self) -> bool:
        """Whether any answer may be there: then these teachers were fit to teach."""
        return self.file.is_file()

    def of(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The answers to the views `view` of the images `sample`.

        Args:
            sample, view: integers (n,); an image that isn't for training is known in its identity view only.

        Returns:
            float16 (n, classes): logits.

        Raises:
            Failure: the file is damaged or can't be written; a teacher's file is damaged, or was changed
                meanwhile; or a teacher doesn't answer in numbers.
            WrongValue: a teacher doesn't fit the data set.
        """
        row = self._rows(sample, view)
        held = self._held(row)
        if _missing(held).any():
            make_folder(self.folder)
            waiting = f"waiting for another process that asks the same teachers ({self.folder})"
            with alone(self.folder, waiting):
                held = self._filled(row, sample, view)
        return held[:, :-1].view(np.float16)

    def _rows(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        trained_on = self._views_of[sample] == self.views.count
        if not (trained_on | (view == self.views.identity)).all():
            raise WrongValue(
                "answers to images that aren't for training are kept of their identity view only."
            )
        return self._first_row[sample] + np.where(trained_on, view, 0)

    def _held(self, row: np.ndarray) -> np.ndarray:
        return (
            np.asarray(self._open("r")[row]) if self.begun else np.zeros((len(row), self.shape[1]), np.uint16)
        )

    def _filled(self, row: np.ndarray, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The rows `row`, what is missing computed; to be called alone."""
        if not self.begun:
            self._create()
        table = self._open("r+")
        held = np.asarray(table[row])
        missing = np.flatnonzero(_missing(held))
        # Nobody is writing now: a row that is there must be whole.
        if held[missing, -1].any():
            raise Failure(self._damaged("an answer isn't what was written"))
        say = Countdown("teachers", len(missing), "answers")
        for start in range(0, len(missing), BULK):
            part = missing[start : start + BULK]
            bits = self._asked(sample[part], view[part]).view(np.uint16)
            table[row[part], :-1] = bits
            table[row[part], -1] = _check(bits)  # after the answers: a kill in between leaves them missing
            say(start + len(part))
        return np.asarray(table[row])

    def _asked(self, sample: np.ndarray, view: np.ndarray) -> np.ndarray:
        """What the teachers answer now: float16 (n, classes), n at most BULK."""
        if self._model is None:
            self._model = _Bulk(Teachers(self._loaded(), self.ensemble), self.views)
        batch = {
            "images": self.dataset.images[np.resize(sample, BULK)],
            "view": np.resize(view, BULK).astype(np.int32),
        }
        logits = np.asarray(self._model.predict_on_batch(batch), np.float32)[: len(sample)]
        if not np.isfinite(logits).all():
            raise Failure(
                "a teacher answers NaN or infinity: it can't teach. Give another, or train it anew."
            )
        largest = np.finfo(np.float16).max
        return logits.clip(-largest, largest).astype(np.float16)

    def _loaded(self) -> list[keras.Model]:
        networks = []
        for given, sha256 in zip(self._given, self._teachers_sha256):
            if isinstance(given, Path):
                network = pretrained.load(given, self.dataset.image_shape, self.dataset.classes)
                if _digest(given) != sha256:
                    raise Failure(f"teacher {given} was changed while it taught. Run the command again.")
                networks.append(network)
            else:
                networks.append(given)
        return networks

    def _create(self) -> None:
        write_text(self.folder / "store.json", json.dumps(self._key, indent=2) + "\n")
        with replacing(self.file) as partial:
            # Written out, not a sparse file: a full disk shows now, when it can be told.
            np.save(partial, np.zeros(self.shape, np.uint16))

    def _open(self, mode: Any) -> np.ndarray:
        try:
            table = np.load(self.file, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise Failure(self._damaged(error)) from error
        if table.shape != self.shape or table.dtype != np.uint16:
            raise Failure(self._damaged(f"it holds {table.dtype} {table.shape}, not uint16 {self.shape}"))
        return table

    def _damaged(self, why: Any) -> str:
        return (
            f"the teachers' answers in {self.file} are damaged ({why}). "
            "Delete that file; the next run asks the teachers anew."
        )


class _Bulk(keras.Model):
    """Teachers that are shown views of images from the host, compiled to predict."""

    def __init__(self, teachers: Teachers, views: Views):
        super().__init__(name="bulk", dtype="float32")
        self.teachers, self.views = teachers, views
        self.built = True
        self.compile(jit_compile=steps.answering(teachers))

    def call(self, batch: dict[str, Any]) -> Any:
        return self.teachers(seen(batch["images"], batch["view"], self.views))


def _missing(held: np.ndarray) -> np.ndarray:
    """Of stored rows (n, classes + 1), which hold no whole answer: bool (n,)."""
    return held[:, -1] != _check(held[:, :-1])


def _check(bits: np.ndarray) -> np.ndarray:
    """A number for each row of `bits`, uint16 (n, classes): never 0, another where one bit changed."""
    weights = np.arange(1, bits.shape[1] + 1, dtype=np.int64)
    return (1 + bits.astype(np.int64) @ weights % 65521).astype(np.uint16)


def _copied(teacher: Path | keras.Model, expected: int) -> Path | keras.Model:
    """A network as it is now: its answers may be asked for when the caller has trained it on."""
    if not isinstance(teacher, keras.Model):
        return Path(teacher)
    if classes(teacher, "teacher") != expected:
        raise WrongValue(
            f"teacher {teacher.name!r} knows {classes(teacher, 'teacher')} classes, "
            f"the data set has {expected}: they must be the same."
        )
    return Teachers(teacher).networks[0]


def _digest(teacher: Path | keras.Model) -> str:
    """The SHA-256 of a file, or of a network's layers and weights."""
    if isinstance(teacher, Path):
        return checksum(pretrained.file(teacher))
    digest = hashlib.sha256(teacher.to_json().encode())
    for variable in teacher.variables:
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()
