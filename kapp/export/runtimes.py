"""The runtimes that execute models: one class per format, each of which imports its own packages only."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import numpy as np

from kapp import cli, hardware
from kapp.cli import suppress_stderr
from kapp.errors import KappError
from kapp.export.formats import PROBABILITIES
from kapp.models.keras_file import check_classifier, load_keras_file
from kapp.records import ModelFormat

ONNX_DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}


class Runtime(Protocol):
    """A loaded model."""

    image_shape: tuple[int | None, ...]  # (height, width, channels); None: any size
    device: str

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        """Probabilities or logits (n, classes) of uint8 images (n, height, width, channels)."""


def load(format: ModelFormat, path: Path) -> Runtime:
    """The model at `path`, a file or the folder of a SavedModel, in the runtime of its format.

    Raises:
        ConfigError: a Keras network is no classifier, see `keras_file.check_classifier`.
        KappError: the file is damaged, or isn't a classifier of images.
    """
    if format in ("run", "keras"):
        return KerasRuntime(path)
    runtimes: dict[str, Callable[[Path], Runtime]] = {
        "saved_model": SavedModelRuntime,
        "onnx": OnnxRuntime,
        "litert": LiteRTRuntime,
    }
    try:
        with suppress_stderr():
            runtime = runtimes[format](path)
    except Exception as error:  # each of the three runtimes raises its own
        first_line = str(error).strip().partition("\n")[0]
        raise KappError(f"cannot load {path}: {first_line} Export it again.") from error
    if len(runtime.image_shape) != 3:
        raise KappError(f"the input of {path} isn't a batch of images (n, height, width, channels).")
    first, *_, last = runtime.image_shape
    if first in (1, 3) and last not in (1, 3):
        raise KappError(
            f"the input of {path} is (n, channels, height, width), but images are (n, height, width, "
            "channels): export it with a transposition as its first operation."
        )
    return runtime


class KerasRuntime:
    """A .keras file in float32, as it is exported, on the backend that KERAS_BACKEND chooses."""

    def __init__(self, path: Path):
        cli.start_keras()
        from kapp.export.classifier import build_classifier
        from kapp.models.float32 import float32_copy, is_float32
        from kapp.models.flops import count_flops

        network = load_keras_file(path)
        check_classifier(network, str(path))
        self._classifier = build_classifier(network if is_float32(network) else float32_copy(network))
        self.parameters, self.flops = network.count_params(), count_flops(network)
        self.image_shape = network.input_shape[1:]
        self.device = hardware.gpu(cli.backend()) or hardware.processor()

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        return self._classifier.predict_on_batch(images)


class SavedModelRuntime:
    def __init__(self, path: Path):
        import tensorflow as tf

        self.device = hardware.gpu("tensorflow") or hardware.processor()
        self._model = tf.saved_model.load(str(path))  # keeps the variables of the signature alive
        self._serve = self._model.signatures["serving_default"]
        ((self._input, spec),) = self._serve.structured_input_signature[1].items()
        self._output = _probabilities_output(self._serve.structured_outputs)
        self._constant, self._dtype = tf.constant, spec.dtype
        self.image_shape = tuple(spec.shape[1:])

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        return self._serve(**{self._input: self._constant(images, self._dtype)})[self._output].numpy()


class OnnxRuntime:
    device = hardware.processor()

    def __init__(self, path: Path):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (images,) = self._session.get_inputs()
        self._input = images.name
        self._output = _probabilities_output([output.name for output in self._session.get_outputs()])
        if images.type not in ONNX_DTYPES:
            raise ValueError(f"its input is {images.type}, not images.")
        self._dtype, self._batch_size = ONNX_DTYPES[images.type], images.shape[0]
        self.image_shape = tuple(side if isinstance(side, int) else None for side in images.shape[1:])

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        size = self._batch_size if isinstance(self._batch_size, int) else len(images)  # some are fixed to 1
        parts = [images[i : i + size].astype(self._dtype) for i in range(0, len(images), size)]
        return np.concatenate([self._session.run([self._output], {self._input: part})[0] for part in parts])


class LiteRTRuntime:
    device = hardware.processor()

    def __init__(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=hardware.cores())
        self._interpreter.allocate_tensors()  # prints a line, the first time
        (images,) = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()  # without their names
        (probabilities,) = (output for output in outputs if output["dtype"] is not np.bytes_)
        if any(details["quantization"][0] for details in (images, probabilities)):
            raise ValueError("its input or output is quantized: convert it with float input and output.")
        self._input, self._output, self._dtype = images["index"], probabilities["index"], images["dtype"]
        self._shape: tuple[int, ...] = ()
        self.image_shape = tuple(None if side == -1 else int(side) for side in images["shape_signature"][1:])

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, images.shape)
            self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(self._input, images.astype(self._dtype))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)


def _probabilities_output(outputs: Collection[str]) -> str:
    """The name of the output with the probabilities: `probabilities`, or the only one."""
    if PROBABILITIES in outputs:
        return PROBABILITIES
    if len(outputs) > 1:
        raise ValueError(f"none of its outputs ({', '.join(outputs)}) is called {PROBABILITIES}.")
    (output,) = outputs
    return output
