"""What runs an export: one short class a format, each importing its runtime alone."""

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kapp import machine
from kapp.cli import quiet
from kapp.errors import Failure, WrongValue
from kapp.serving.formats import PROBABILITIES

ONNX_DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
PACKAGES = {"saved_model": "tensorflow", "onnx": "onnxruntime", "litert": "ai_edge_litert"}


class Runtime(Protocol):
    """A loaded export."""

    image_shape: tuple[int | None, ...]  # (height, width, channels)
    device: str

    def answer(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, channels) to (n, classes)."""


def check(format: str) -> None:
    """Raises:
    WrongValue: the runtime of `format` isn't installed.
    """
    if find_spec(PACKAGES[format]) is None:
        package = PACKAGES[format].replace("_", "-")
        raise WrongValue(f"running a model of format {format} needs {package}: pip install {package}.")


def load(format: str, path: Path) -> Runtime:
    """The runtime of `format` with the export at `path` loaded.

    Raises:
        Failure: the file is damaged, or isn't a classifier of images.
    """
    runtimes: dict[str, Any] = {"saved_model": SavedModel, "onnx": Onnx, "litert": LiteRT}
    try:
        with quiet():
            runtime = runtimes[format](path)
    except Exception as error:  # what three runtimes raise
        first_line = str(error).strip().partition("\n")[0]
        raise Failure(f"cannot load {path}: {first_line} Export it again.") from error
    if len(runtime.image_shape) != 3:
        raise Failure(f"{path} doesn't take images (n, height, width, channels).")
    first, *_, last = runtime.image_shape
    if first in (1, 3) and last not in (1, 3):
        raise Failure(
            f"{path} takes images (n, channels, height, width), and kapp gives (n, height, width, channels): "
            "export it with a transposition as its first operation."
        )
    return runtime


def _probabilities(outputs: Collection[str]) -> str:
    """Which of a model's outputs are the probabilities: those that an export calls so, or the only one."""
    if PROBABILITIES in outputs:
        return PROBABILITIES
    if len(outputs) > 1:
        raise ValueError(
            f"it has several outputs ({', '.join(outputs)}), and none is called {PROBABILITIES}."
        )
    (output,) = outputs
    return output


class SavedModel:
    def __init__(self, path: Path):
        import tensorflow as tf

        self.device = machine.gpu("tensorflow") or machine.processor()
        self._model = tf.saved_model.load(str(path))  # holds the variables that the signature reads
        self._serve = self._model.signatures["serving_default"]
        ((self._input, spec),) = self._serve.structured_input_signature[1].items()
        self._output = _probabilities(self._serve.structured_outputs)
        self._constant, self._dtype = tf.constant, spec.dtype
        self.image_shape = tuple(spec.shape[1:])

    def answer(self, images: np.ndarray) -> np.ndarray:
        return self._serve(**{self._input: self._constant(images, self._dtype)})[self._output].numpy()


class Onnx:
    device = machine.processor()

    def __init__(self, path: Path):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (images,) = self._session.get_inputs()
        self._input = images.name
        self._output = _probabilities([output.name for output in self._session.get_outputs()])
        if images.type not in ONNX_DTYPES:
            raise ValueError(f"it takes {images.type}, not images.")
        self._dtype, self._at_once = ONNX_DTYPES[images.type], images.shape[0]
        self.image_shape = tuple(side if isinstance(side, int) else None for side in images.shape[1:])

    def answer(self, images: np.ndarray) -> np.ndarray:
        size = self._at_once if isinstance(self._at_once, int) else len(images)  # some take one alone
        parts = [images[i : i + size].astype(self._dtype) for i in range(0, len(images), size)]
        return np.concatenate([self._session.run([self._output], {self._input: part})[0] for part in parts])


class LiteRT:
    device = machine.processor()

    def __init__(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=machine.cores())
        self._interpreter.allocate_tensors()  # and says so, the first time
        (images,) = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()  # whose names are lost
        (answers,) = (output for output in outputs if output["dtype"] is not np.bytes_)
        if any(details["quantization"][0] for details in (images, answers)):
            raise ValueError("it takes or gives quantised numbers: convert it with float input and output.")
        self._input, self._output, self._dtype = images["index"], answers["index"], images["dtype"]
        self._shape: tuple[int, ...] = ()
        self.image_shape = tuple(None if side == -1 else int(side) for side in images["shape_signature"][1:])

    def answer(self, images: np.ndarray) -> np.ndarray:
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, images.shape)
            self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(self._input, images.astype(self._dtype))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)
