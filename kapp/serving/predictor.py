"""Any model path -> a Predictor: uint8 images to probabilities, and what is known of the model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kapp import cli, machine
from kapp.errors import Failure, WrongValue
from kapp.runs import Run
from kapp.serving import manifest, runtimes
from kapp.serving.formats import FILES

KINDS = ("run", "keras", "saved_model", "onnx", "litert")
FORMS = "a run folder, a .keras file, a SavedModel's folder, an .onnx file or a .tflite file"
RUNS_CODE = (".h5", ".hdf5", ".pkl", ".pickle", ".pt", ".pth", ".joblib")


@dataclass(frozen=True)
class Predictor:
    """A model that answers images, whatever runs it."""

    name: str
    kind: str  # one of KINDS
    answer: Callable[[np.ndarray], np.ndarray]  # uint8 (n, height, width, channels) to (n, classes)
    image_shape: tuple[int | None, ...]  # (height, width, channels); None fits any size
    classes: tuple[str, ...]  # empty where the model doesn't tell
    bytes: int  # of the files that it needs, on disk
    device: str
    facts: dict[str, Any]  # parameters, flops, dataset, test_accuracy, ... as far as they are known
    label: str = ""  # of its path, where another may have its name

    def predict(self, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Probabilities float64 (n, classes) of uint8 images (n, height, width, channels).

        Raises:
            WrongValue: images of another size.
            Failure: the answers aren't (n, classes), or aren't numbers.
        """
        if any(mine not in (None, theirs) for mine, theirs in zip(self.image_shape, images.shape[1:])):
            raise WrongValue(f"{self.name} takes images of {self.image_shape}, these are {images.shape[1:]}.")
        batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
        try:
            answers = np.concatenate([np.asarray(self.answer(batch), np.float64) for batch in batches])
        except Exception as error:  # what four runtimes raise, of models from anywhere
            first_line = str(error).strip().partition("\n")[0]
            raise Failure(
                f"{self.name} can't answer {len(batches[0])} images of {images.shape[1:]}: {first_line}"
            ) from error
        if answers.ndim != 2 or len(answers) != len(images):
            raise Failure(f"{self.name} answers {answers.shape} to {len(images)} images, not (n, classes).")
        if not np.isfinite(answers).all():
            raise Failure(f"{self.name} answers with something that isn't a number.")
        return _probabilities(answers)


def kind(path: Path) -> str:
    """Which of `KINDS` lies at `path`.

    Raises:
        WrongValue: none of them.
    """
    if path.is_dir():
        for name, file in FILES.items():
            if (path / file).is_file():
                return name
        Run(path)  # refuses what isn't one
        return "run"
    if path.suffix in RUNS_CODE:
        raise WrongValue(
            f"{path}: {path.suffix} files can run code when they are loaded, so kapp doesn't. "
            "Save the model as .keras: model.save('mine.keras')."
        )
    if not path.is_file():
        raise WrongValue(f"there is no model at {str(path)!r}: give {FORMS}.")
    kinds = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}
    if path.suffix not in kinds:
        raise WrongValue(f"{path} is no model that kapp knows: give {FORMS}.")
    return kinds[path.suffix]


def facts(path: Path) -> dict[str, Any]:
    """What stands beside the model at `path`: a run's result.json, an export's manifest, or {}."""
    what = kind(path)
    if what == "run":
        return Run(path).result
    if what == "keras":
        return {}
    return manifest.read(_folder(path)) if _is_listed(path) else {}


def label(path: Path) -> str:
    """What to call an evaluation of the model at `path`: its run and its kind, as far as it has them."""
    what = kind(path)
    if what == "run":
        return path.resolve().name
    run = Path(str(facts(path).get("source", {}).get("run") or "")).name  # a name, whatever it claims to be
    return f"{run or path.resolve().stem}-{what}"


def check(path: Path, trust: bool = False) -> None:
    """Refuse what `load` would refuse, before anything is imported.

    Args:
        trust: load a SavedModel without a manifest, and files that aren't what the manifest says.

    Raises:
        WrongValue: no model, an unfinished run, or a SavedModel without a manifest.
        Failure: the files aren't those that the manifest lists.
    """
    what = kind(path)
    if what == "run":
        Run(path).result  # noqa: B018  (refuses an unfinished run)
    elif what != "keras":
        runtimes.check(what)
        if not trust and (what == "saved_model" or _is_listed(path)):
            manifest.verify(_folder(path))


def load(path: Path, trust: bool = False) -> Predictor:
    """The model at `path`, ready to predict.

    Raises:
        WrongValue: as `check`; or a network that doesn't map images to (n, classes).
        Failure: as `check`; or a damaged file.
    """
    check(path, trust)
    what, held = kind(path), facts(path)
    if what in ("run", "keras"):
        return _with_keras(path, what, held)
    file = path / FILES[what] if path.is_dir() and what != "saved_model" else path
    runtime = runtimes.load(what, file)
    return Predictor(
        name=held.get("name") or path.resolve().stem,
        kind=what,
        answer=runtime.answer,
        image_shape=runtime.image_shape,
        classes=tuple(held.get("classes", ())),
        bytes=_bytes(file),
        device=runtime.device,
        facts=held,
        label=label(path),
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (n, classes) to probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _with_keras(path: Path, what: str, held: dict[str, Any]) -> Predictor:
    cli.start_keras()
    from kapp.models import saved
    from kapp.models.networks import flops
    from kapp.serving.classifier import classifier

    file = Run(path).model_file if what == "run" else path
    network = saved.load(file)
    whole = classifier(network)
    return Predictor(
        name=held.get("model") or path.stem,
        kind=what,
        answer=whole.predict_on_batch,
        image_shape=network.input_shape[1:],
        classes=Run(path).classes if what == "run" else (),
        bytes=_bytes(file),
        device=machine.gpu(cli.backend()) or machine.processor(),
        facts={"parameters": network.count_params(), "flops": flops(network), **held},
        label=label(path),
    )


def _probabilities(answers: np.ndarray) -> np.ndarray:
    """`answers`, after a softmax if they are logits: an export from elsewhere may end in either."""
    if (answers >= 0).all() and np.allclose(answers.sum(axis=1), 1, atol=0.01):
        return answers
    return softmax(answers)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _is_listed(path: Path) -> bool:
    """Whether `path` is an export, or the file of one, by the manifest beside it."""
    return path.is_dir() or path.name in manifest.read(path.parent).get("sha256", {})


def _bytes(path: Path) -> int:
    if path.is_file():
        beside_it = path.with_name(f"{path.name}.data")  # where PyTorch puts the weights of an .onnx
        return path.stat().st_size + (beside_it.stat().st_size if beside_it.is_file() else 0)
    beside = (manifest.NAME, manifest.CARD)
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name not in beside)
