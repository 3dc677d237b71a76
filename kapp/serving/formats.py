"""The formats of an export: one short function each, from a classifier to files in a folder."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from kapp.cli import quiet, start_keras
from kapp.errors import Failure, WrongValue

Format = Literal["saved_model", "onnx", "litert"]
FORMATS: tuple[Format, ...] = get_args(Format)
# The file in the export's folder that the runtime opens; a SavedModel is the folder itself.
FILES = {"saved_model": "saved_model.pb", "onnx": "model.onnx", "litert": "model.tflite"}
PROBABILITIES, CLASS_NAME = "probabilities", "class_name"  # what an export answers
# What writing needs, and what checking what was written needs.
NEEDS = {
    "saved_model": ("tensorflow",),
    "onnx": ("tensorflow", "tf2onnx", "onnxruntime"),
    "litert": ("tensorflow", "ai_edge_litert"),
}


def check(format: Format) -> None:
    """Raises:
    WrongValue: a package that the export needs isn't installed.
    """
    for package in NEEDS[format]:
        if find_spec(package) is None:
            raise WrongValue(
                f"exporting to {format} needs {package.replace('_', '-')}, which isn't installed, whatever "
                f"backend trained the network: pip install {package.replace('_', '-')}."
            )


def start() -> None:
    """Start Keras on TensorFlow, which alone writes every format.

    Raises:
        WrongValue: this process has started it on another backend already.
    """
    start_keras("tensorflow")
    import keras

    if keras.backend.backend() != "tensorflow":
        raise WrongValue(
            f"Keras runs on {keras.backend.backend()} here already, and exports go through TensorFlow: "
            "export in a process of its own, with python -m kapp.recipes.export."
        )


def write(classifier: Any, classes: Sequence[str], format: Format, folder: Path) -> None:
    """Export `classifier`, a float32 keras.Model on the TensorFlow backend that knows `classes`, into
    `folder`: images, uint8 (n, height, width, channels), to `probabilities`, float32 (n, classes), and
    `class_name`, the most probable's, string (n,).

    Raises:
        Failure: a layer of it can't be expressed in the format.
    """
    exporters = {"saved_model": _saved_model, "onnx": _onnx, "litert": _litert}
    try:
        with quiet():
            exporters[format](_served(classifier, classes), folder)
    except Exception as error:  # what three converters raise
        first_line = str(error).strip().partition("\n")[0]
        raise Failure(f"{classifier.name} can't be exported to {format}: {first_line}") from error


def _served(classifier: Any, classes: Sequence[str]) -> Any:
    """A tf.Module whose function `serve` every format is written from. Not classifier.export: a Keras model
    has no names to give, and what Keras 3.15 exports holds every weight twice."""
    import tensorflow as tf

    def serve(images: Any) -> dict[str, Any]:
        probabilities = classifier(images, training=False)
        best = tf.argmax(probabilities, axis=1)
        return {PROBABILITIES: probabilities, CLASS_NAME: tf.gather(tf.constant(list(classes)), best)}

    images = tf.TensorSpec((None, *classifier.input_shape[1:]), tf.uint8, name="images")
    served = tf.Module()
    served.weights = [variable.value for variable in classifier.variables]
    served.serve = tf.function(serve, input_signature=[images])
    return served


def _saved_model(served: Any, folder: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(served, folder, signatures=served.serve)


def _onnx(served: Any, folder: Path) -> None:
    import onnxruntime
    import tf2onnx

    file = folder / FILES["onnx"]
    tf2onnx.convert.from_function(served.serve, served.serve.input_signature, output_path=str(file))
    onnxruntime.InferenceSession(file)  # tf2onnx writes what it doesn't know all the same


def _litert(served: Any, folder: Path) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [served.serve.get_concrete_function()], served
    )
    # Operations of its own alone: with TensorFlow's among them, few devices could run the file.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    (folder / FILES["litert"]).write_bytes(converter.convert())
