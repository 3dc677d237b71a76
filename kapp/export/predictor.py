"""A model of any format, found by its path, that predicts class probabilities."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kapp.errors import ConfigError, KappError
from kapp.export import formats, manifest, runtimes
from kapp.export.runtimes import KerasRuntime, Runtime
from kapp.fileio import is_file, is_folder
from kapp.models.keras_file import UNSAFE
from kapp.records import ExportManifest, ModelFormat, Parity, RunSummary
from kapp.run_folder import Run

ACCEPTED = "Accepted: a run folder, a .keras file, the folder of a SavedModel, an .onnx file, a .tflite file"
FORMAT_OF_SUFFIX: dict[str, ModelFormat] = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}
UNSAFE_SUFFIXES = (*UNSAFE, ".pickle", ".joblib")


@dataclass(frozen=True)
class Predictor:
    """A loaded model. The default values mean "unknown"."""

    name: str
    format: ModelFormat
    runtime: Runtime
    classes: tuple[str, ...] = ()  # their names, in the order of the probabilities
    label: str = ""  # as `StoredModel.label`
    size_bytes: int = 0  # of its files
    parameters: int | None = None
    flops: int | None = None
    parity: Parity | None = None  # with the network that it was exported from
    run: RunSummary | None = None  # that trained it

    def predict(self, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Probabilities, float64 (n, classes), of uint8 images (n, height, width, channels).

        Raises:
            ConfigError: the model takes images of another size.
            KappError: the outputs aren't (n, classes), or not finite.
        """
        shape, wanted = images.shape[1:], self.runtime.image_shape
        if any(side not in (None, actual) for side, actual in zip(wanted, shape)):
            raise ConfigError(f"{self.name} takes images of {wanted}, not {shape}.")
        batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
        try:
            outputs = np.concatenate(
                [np.asarray(self.runtime.predict_batch(batch), np.float64) for batch in batches]
            )
        except Exception as error:  # each runtime raises its own, and models may come from anywhere
            first_line = str(error).strip().partition("\n")[0]
            raise KappError(
                f"{self.name} can't predict {len(batches[0])} images of {shape}: {first_line}"
            ) from error
        if outputs.ndim != 2 or len(outputs) != len(images):
            raise KappError(
                f"{self.name} predicts {outputs.shape} for {len(images)} images, not (n, classes)."
            )
        if not np.isfinite(outputs).all():
            raise KappError(f"{self.name} predicts values that aren't finite.")
        are_probabilities = (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=0.01)
        return outputs if are_probabilities else softmax(outputs)


@dataclass(frozen=True)
class StoredModel:
    """A model on disk, and what its folder contains about it. Needs no runtime."""

    path: Path
    format: ModelFormat
    name: str
    manifest: ExportManifest | None  # of an export
    run: RunSummary | None  # that trained it

    @property
    def label(self) -> str:
        """The name of its run, else of its file; and the format, unless it is a run folder."""
        if self.format == "run":
            return self.path.resolve().name
        # Only a name, whatever the manifest contains: evaluations are written to a folder with this label.
        run_name = Path(self.run.name).name if self.run else ""
        return f"{run_name or self.path.resolve().stem}-{self.format}"

    @property
    def file(self) -> Path:
        """What its runtime opens: a file, or the folder of a SavedModel."""
        if self.format == "run":
            return Run(self.path).check_file("model.keras")
        return formats.model_path(self.format, self.path) if is_folder(self.path) else self.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, in the order of its outputs; () if they are unknown."""
        if self.format == "run":
            return Run(self.path).classes
        return self.manifest.classes if self.manifest else ()

    @property
    def data_dir(self) -> str | None:
        """The folder of the data sets that its run was trained with."""
        setting = Run(self.path).config.settings.get("data_dir") if self.format == "run" else None
        return str(setting) if setting else None

    def check(self, allow_unverified: bool = False) -> None:
        """Check that `load` can open the model, without importing its runtime.

        Args:
            allow_unverified: accept a folder without a manifest, and files that differ from their manifest.

        Raises:
            ConfigError: there is no runtime for it, or a SavedModel has no manifest.
            KappError: its files aren't those that the manifest lists.
        """
        if self.format in ("run", "keras"):
            return
        formats.check_packages(self.format, formats.RUNTIME_PACKAGES)
        if not allow_unverified and (self.manifest or is_folder(self.path)):
            manifest.verify(self.path if is_folder(self.path) else self.path.parent)

    def load(self, allow_unverified: bool = False) -> Predictor:
        """The model, loaded.

        Raises:
            ConfigError: as `check`; or it is no classifier.
            KappError: as `check`; or its file is damaged.
        """
        self.check(allow_unverified)
        runtime = runtimes.load(self.format, self.file)
        known = runtime if isinstance(runtime, KerasRuntime) else self.manifest
        return Predictor(
            self.name,
            self.format,
            runtime,
            classes=self.classes,
            label=self.label,
            size_bytes=_size_bytes(self.file),
            parameters=known.parameters if known else None,
            flops=known.flops if known else None,
            parity=self.manifest.parity if self.manifest else None,
            run=self.run,
        )


def find(path: Path) -> StoredModel:
    """The model at `path`, not loaded yet.

    Raises:
        ConfigError: there is no model that kapp can load.
        KappError: the run isn't finished, or its result or a manifest is damaged.
    """
    format = find_format(path)
    if format == "run":
        run = Run(path)
        return StoredModel(path, format, run.result.model, None, manifest.summarize(run))
    export = None if format == "keras" else manifest.find(path)
    name = export.name if export else path.resolve().stem
    return StoredModel(path, format, name, export, export.run if export else None)


def load(path: Path, allow_unverified: bool = False) -> Predictor:
    """The model at `path`, loaded: as `find` and `StoredModel.load`."""
    return find(path).load(allow_unverified)


def find_format(path: Path) -> ModelFormat:
    """The format of the model at `path`.

    Raises:
        ConfigError: there is no model that kapp can load.
    """
    if is_folder(path):
        for format in formats.FORMATS:
            if is_file(path / formats.FILES[format]):
                return format
        Run(path)  # raises if it isn't one
        return "run"
    if path.suffix in UNSAFE_SUFFIXES:
        raise ConfigError(
            f"{path} isn't loaded: {path.suffix} files can run code. "
            "Save the model as .keras: model.save('mine.keras')."
        )
    if not is_file(path):
        raise ConfigError(f"there is no model at {str(path)!r}. {ACCEPTED}.")
    if path.suffix not in FORMAT_OF_SUFFIX:
        raise ConfigError(f"{path} isn't a model that kapp can load. {ACCEPTED}.")
    return FORMAT_OF_SUFFIX[path.suffix]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (n, classes).

    Example:

    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _size_bytes(path: Path) -> int:
    if is_file(path):
        weights = path.with_name(f"{path.name}.data")  # where PyTorch puts the weights of an .onnx file
        return path.stat().st_size + (weights.stat().st_size if is_file(weights) else 0)
    skipped = (manifest.FILE, manifest.MODEL_CARD)
    return sum(file.stat().st_size for file in path.rglob("*") if is_file(file) and file.name not in skipped)
