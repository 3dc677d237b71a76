"""What kapp writes to disk about runs, trials, evaluations and exports: typed records, to and from JSON.

`to_json` and `from_json` are the only conversion. A file with a missing, unknown or mistyped key is
refused, and the key is named, so that no later code meets a value of a wrong type. `write` adds a checksum
of the values, and `read` refuses other values.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from kapp.errors import KappError
from kapp.fileio import write_text

Setting = str | int | float | bool | None | list[str] | list[int] | list[float]
Record = TypeVar("Record")
CHECKSUM = "checksum"  # the key of the SHA-256 of all other values in a file


@dataclass(frozen=True)
class RunConfig:
    """`config.json`: everything that decides what a run computes, enough to run it again with `--config`.

    The file is flat: settings are keys like the others, with the names of their flags.
    """

    recipe: str
    backend: str
    data_sha256: str
    settings: Mapping[str, Setting]
    teachers_sha256: tuple[str, ...] = ()  # of teachers that are files; in the order of --teacher
    source_sha256: str | None = None  # of the network that a transfer starts from
    unlabeled_sha256: str | None = None  # of the images of --unlabeled


@dataclass(frozen=True)
class Environment:
    """`environment.json`: where a run was computed, enough to explain why two runs differ."""

    kapp: str
    commit: str
    python: str
    platform: str
    backend: str
    device: str
    devices: int
    threads: int
    versions: Mapping[str, str | None]
    data_sha256: str


@dataclass(frozen=True)
class RunResult:
    """`result.json`: one finished run, the row that reports read. Accuracies are fractions, losses nats."""

    recipe: str
    model: str
    dataset: str
    seed: int
    backend: str
    precision: str
    device: str
    commit: str
    epochs: int
    best_epoch: float  # 1, 2, ...; a fraction where validation comes more than once per epoch
    hyperparameters: Mapping[str, Setting]  # what this network was trained with, of a transfer: in this phase
    parameters: int
    flops: int | None  # None: they can't be counted
    train_images: int
    validation_images: int
    test_images: int
    val_accuracy: float | None  # None: without validation images
    test_accuracy: float
    test_interval: tuple[float, float]  # Wilson's, 95%
    test_loss: float
    calibration_error: float
    train_images_per_second: float
    seconds: float
    teachers: tuple[str, ...] = ()  # names of their networks
    teacher_logits: Literal["cached", "live"] | None = None
    source: str | None = None  # of a transfer: where the network was trained first
    phase: Literal["linear_probe", "fine_tuning"] | None = None
    # How many validation images each teacher, or the source, was trained on; None: unknown. () without
    # teachers, or with a source of other images.
    validation_overlap: tuple[int | None, ...] = ()
    labeled_images: int | None = None  # training images with a label; None: all
    unlabeled_images: int = 0  # training images that --unlabeled added to those of the data set
    scoring_precision: str | None = None  # of the test scores; None: `precision`, that of the training
    # Of the other files of the run folder, by name; {} in runs of early versions.
    sha256: Mapping[str, str] = field(default_factory=dict, compare=False)
    status: Literal["finished"] = "finished"


@dataclass
class Trial:
    """`trials/004.json`: one trial of a sweep. Scores are fractions, times are seconds."""

    number: int
    values: dict[str, int | float]  # as the oracle proposed them
    epochs: int  # to train up to
    run: int  # the trial in whose run folder it trains: itself, or the one that it continues
    default: bool = False  # trained with the recipe's own settings, whatever `values` are
    status: Literal["running", "finished", "failed"] = "running"
    worker: str = ""
    created_at: float = 0.0
    ended_at: float | None = None
    end_order: int | None = None  # how many trials had ended before
    num_created_at_end: int | None = None  # how many trials had been created when it ended
    score: float | None = None  # the best validation accuracy
    best_epoch: float | None = None
    seconds: float | None = None  # of training
    parameters: int | None = None
    network: str | None = None
    config: dict[str, Setting] = field(default_factory=dict)  # the recipe's resolved settings
    message: str | None = None  # why it failed
    # Of the sweep.json that it belongs to; None in early versions.
    sweep_sha256: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SearchRange:
    """One searched value, from `low` to `high`."""

    name: str
    low: float
    high: float
    log: bool = False  # sampled on a logarithmic scale
    integer: bool = False
    min_layers: int = 0  # searched only in networks with at least so many hidden layers


@dataclass(frozen=True)
class SweepConfig:
    """`sweep.json`: everything that decides which trials a sweep proposes, but for their number."""

    recipe: str
    backend: str
    data_sha256: str
    tuner: Literal["random", "bayesian", "hyperband"]
    include_default: bool
    space: tuple[SearchRange, ...]
    budget: int | None  # parameters of each network, where layers or widths are searched
    settings: Mapping[str, Setting]  # the recipe's, resolved; those of the default trial


ExportFormat = Literal["saved_model", "onnx", "litert"]
ModelFormat = Literal["run", "keras", "saved_model", "onnx", "litert"]


@dataclass(frozen=True)
class Software:
    """The version of kapp, and the packages that it ran with."""

    kapp: str
    commit: str
    versions: Mapping[str, str | None]  # None: not installed


@dataclass(frozen=True)
class TensorSpec:
    """An input or an output of an exported model."""

    shape: tuple[int | None, ...]  # None: any number
    dtype: str


@dataclass(frozen=True)
class Parity:
    """How closely an export reproduces the network: the probabilities of both on the same images."""

    images: int
    compared_on: str  # which images: "test images of cifar10", "noise"
    max_difference: float  # between two probabilities
    tolerance: float  # the largest accepted difference
    agreement: float  # the fraction of images for which both predict the same class


@dataclass(frozen=True)
class RunSummary:
    """The part of a run that an export carries with it."""

    name: str  # of the run folder
    dataset: str
    data_sha256: str
    seed: int
    teachers: tuple[str, ...]
    distillation_loss: str | None  # None: trained on labels only
    label_weight: float | None
    epochs: int
    backend: str
    precision: str
    commit: str
    validation_images: int
    test_images: int
    test_accuracy: float
    test_interval: tuple[float, float]  # Wilson's, 95%
    test_loss: float
    calibration_error: float
    distill_weight: float | None = None  # None: 1 - label_weight
    source: str | None = None  # of a transfer: what the network was trained on before, or its file


@dataclass(frozen=True)
class ExportManifest:
    """`manifest.json`: what an export contains, where it comes from, and the checksums of its files."""

    format: ExportFormat
    name: str  # of the model
    classes: tuple[str, ...]  # in the order of the probabilities
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    parameters: int
    flops: int | None  # None: they can't be counted
    parity: Parity
    run: RunSummary | None  # None: kapp didn't train the network
    source_file: str  # the .keras file that was exported
    source_sha256: str
    software: Software
    sha256: Mapping[str, str]  # of every other file in the export's folder


@dataclass(frozen=True)
class ModelScores:
    """The quality, size and speed of one model on labeled images."""

    name: str
    label: str  # after its run or its file: unlike the label of another model with the same name
    format: ModelFormat
    accuracy: float
    interval: tuple[float, float]  # of the accuracy; Wilson's, 95%
    loss: float  # cross-entropy, nats
    calibration_error: float
    parameters: int | None  # None: unknown
    flops: int | None
    size_bytes: int  # on disk
    device: str
    latency_ms: float  # of one image
    images_per_second: float  # in batches of `batch_size`
    batch_size: int
    parity: Parity | None = None  # of an export with a manifest


@dataclass(frozen=True)
class ClassScores:
    """One class of an evaluation. None: no image of this class, or no prediction of it."""

    name: str
    images: int
    recall: float | None
    interval: tuple[float, float]  # of the recall; Wilson's, 95%
    precision: float | None
    most_confused_with: str | None  # the most frequent wrong prediction; None: all are correct


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence lies above `low` and up to `high`. None: there are none."""

    low: float
    high: float
    images: int
    confidence: float | None  # mean
    accuracy: float | None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images."""

    images: int
    agreement: float  # the fraction of images for which both predict the same class
    only_first: int  # images that only the first model classifies correctly
    only_second: int
    difference: float  # accuracy of the first model minus that of the second
    interval: tuple[float, float]  # of the difference, 95%
    p_value: float  # of McNemar's test


@dataclass(frozen=True)
class Evaluation:
    """`evaluation.json`: one model on labeled images, or two models on the same images."""

    dataset: str
    data_sha256: str
    split: Literal["test", "validation"]
    images: int
    reported_accuracy: float | None  # of the model's own run on the same images; None: unknown
    same_data: bool  # False: the model was trained on data with another checksum
    model: ModelScores
    by_class: tuple[ClassScores, ...]  # of `model`
    calibration: tuple[CalibrationBin, ...]
    software: Software
    compared_with: ModelScores | None = None  # the second model
    comparison: Comparison | None = None  # of `model` with `compared_with`


@dataclass(frozen=True)
class UnlabeledEvaluation:
    """`evaluation.json`: one model on a folder of image files without labels."""

    model: str
    format: ModelFormat
    images: int
    image_size: tuple[int, int]  # height and width, pixels, that each image was resized to
    software: Software


def to_json(record: Any) -> dict[str, Any]:
    """`record` as JSON values. Infinity becomes the string "inf", which a setting accepts and a field of type
    float refuses."""
    values = {each.name: _plain(getattr(record, each.name)) for each in dataclasses.fields(record)}
    if isinstance(record, RunConfig):
        settings = values.pop("settings")
        return {**{key: value for key, value in values.items() if value not in (None, [])}, **settings}
    return values


def from_json(record_type: type[Record], values: Any, origin: Path | str) -> Record:
    """The record that `values`, as `json.loads` returned them, describe.

    Args:
        origin: what messages name, such as the file that they come from.

    Raises:
        KappError: `values` lack a key, have an unknown one, or have a value of a wrong type.
    """
    if record_type is RunConfig and isinstance(values, dict):
        own = {each.name for each in dataclasses.fields(RunConfig)}
        settings = {key: value for key, value in values.items() if key not in own}
        values = {**{key: value for key, value in values.items() if key in own}, "settings": settings}
    try:
        return _read(record_type, values, "")
    except (TypeError, ValueError, OverflowError) as error:
        raise KappError(f"{origin} is damaged ({error}).") from error


def read(record_type: type[Record], path: Path, way_out: str) -> Record:
    """The record in the JSON file `path`.

    Args:
        way_out: what the user can do if the file is damaged, a sentence.

    Raises:
        KappError: the file is missing, unreadable or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KappError(f"{path} is damaged or missing ({error}). {way_out}") from error
    if not matches_checksum(values):
        raise KappError(f"{path} is damaged (its values differ from its checksum). {way_out}")
    try:
        return from_json(record_type, values, path)
    except KappError as error:
        raise KappError(f"{error} {way_out}") from error


def matches_checksum(values: Any) -> bool:
    """Whether `values`, as `json.loads` returned them, have the checksum among them, or none; removes it."""
    if not isinstance(values, dict) or CHECKSUM not in values:
        return True
    return values.pop(CHECKSUM) == _sha256(values)


def is_foreign(path: Path, record_type: type) -> bool:
    """Whether another program wrote the JSON file at `path`: it has no checksum, and lacks keys that every
    `record_type` has. False where it can't be read: it may be damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    required = {each.name for each in dataclasses.fields(record_type) if each.default is dataclasses.MISSING}
    required -= {"settings"}  # of a run they are keys of the file itself
    return isinstance(values, dict) and CHECKSUM not in values and not required <= values.keys()


def read_evaluation(path: Path, way_out: str) -> Evaluation | UnlabeledEvaluation:
    """The record in the `evaluation.json` at `path`.

    Raises:
        KappError: as `read`.
    """
    if "dataset" in read(dict[str, Any], path, way_out):
        return read(Evaluation, path, way_out)
    return read(UnlabeledEvaluation, path, way_out)


def write(record: Any, path: Path) -> None:
    """Write `record`, or a mapping of JSON values, to the JSON file `path`, whole.

    Raises:
        KappError: the file can't be written.
    """
    values = dict(record) if isinstance(record, Mapping) else to_json(record)
    write_text(path, json.dumps({**values, CHECKSUM: _sha256(values)}, indent=2) + "\n")


def setting(settings: Mapping[str, Any], name: str, kind: type[Record], origin: Path | str) -> Record:
    """The value called `name` of `settings`, a `kind`.

    Args:
        origin: the file that `settings` come from, for messages.

    Raises:
        KappError: it is missing, or of another type.
    """
    try:
        return _read(kind, settings[name], name)
    except KeyError:
        raise KappError(f"{origin} is damaged ({name} is missing).") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise KappError(f"{origin} is damaged ({error}).") from error


def _sha256(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) or value == math.inf else value


def _read(kind: Any, value: Any, key: str) -> Any:
    """`value` as a `kind`; `key` is where it stands, for messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value, key)
    if origin in (Union, types.UnionType):
        for each in arguments:
            try:
                return _read(each, value, key)
            except (TypeError, ValueError, OverflowError):
                continue
        raise TypeError(f"{key}: {value!r} is of a wrong type")
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{key} is {value!r}, not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        _check_type(value, list, key)
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) != len(value):
            raise TypeError(f"{key} has {len(value)} entries, not {len(kinds)}")
        return tuple(_read(each, item, key) for each, item in zip(kinds, value))
    if origin is list:
        _check_type(value, list, key)
        return [_read(arguments[0], item, key) for item in value]
    if origin in (dict, Mapping):
        _check_type(value, dict, key)
        return {name: _read(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if kind is float:
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        _check_type(value, float, key)
        return value
    _check_type(value, type(None) if kind is None else kind, key)
    return value


def _read_record(kind: Any, value: Any, key: str) -> Any:
    _check_type(value, dict, key or "the file")
    hints, fields = typing.get_type_hints(kind), {each.name: each for each in dataclasses.fields(kind)}
    unknown = [name for name in value if name not in fields]
    required = [
        name
        for name, each in fields.items()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in value]
    if missing or unknown:
        words = [*(f"{name} is missing" for name in missing), *(f"{name} is unknown" for name in unknown)]
        raise TypeError(", ".join(words))
    prefix = f"{key}." if key else ""
    return kind(**{name: _read(hints[name], item, prefix + name) for name, item in value.items()})


def _check_type(value: Any, kind: type, key: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{key} is {type(value).__name__}, not {kind.__name__}")
