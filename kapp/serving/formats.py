"""The formats of an export: one short function each, from a classifier to files in a folder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from kapp.cli import quiet, start_keras
from kapp.errors import Failure, WrongValue

Format = Literal["saved_model", "onnx", "litert"]
FORMATS: tuple[Format, ...] = get_args(Format)
# The file in the export's folder that the runtime opens; a SavedModel is the folder itself.
FILES = {"saved_model": "saved_model.pb", "onnx": "model.onnx", "litert": "model.tflite"}
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


def write(classifier, format: Format, folder: Path) -> None:
    """Export `classifier`, a float32 keras.Model on the TensorFlow backend, into `folder`.

    Raises:
        Failure: a layer of it can't be expressed in the format.
    """
    exporters = {"saved_model": _saved_model, "onnx": _onnx, "litert": _litert}
    try:
        with quiet():
            exporters[format](classifier, folder)
    except Exception as error:  # what three converters raise
        first_line = str(error).strip().partition("\n")[0]
        raise Failure(f"{classifier.name} can't be exported to {format}: {first_line}") from error


def _saved_model(classifier, folder: Path) -> None:
    # Not by classifier.export, which in Keras 3.15 writes every weight twice.
    import tensorflow as tf

    images = tf.TensorSpec((None, *classifier.input_shape[1:]), tf.uint8, name="images")
    served = tf.Module()
    served.weights = [variable.value for variable in classifier.variables]
    served.serve = tf.function(lambda images: classifier(images, training=False), input_signature=[images])
    tf.saved_model.save(served, folder, signatures=served.serve)


def _onnx(classifier, folder: Path) -> None:
    import onnxruntime

    signature = _signature(classifier)
    classifier.export(folder / FILES["onnx"], format="onnx", verbose=False, input_signature=signature)
    onnxruntime.InferenceSession(folder / FILES["onnx"])  # tf2onnx writes what it doesn't know all the same


def _litert(classifier, folder: Path) -> None:
    import tensorflow as tf

    # Operations of its own alone: with TensorFlow's among them, few devices could run the file.
    only = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    signature = _signature(classifier)
    classifier.export(
        folder / FILES["litert"], format="litert", verbose=False, input_signature=signature, target_spec=only
    )


def _signature(classifier) -> list:
    """Said, because Keras asks it only of a model that has been called."""
    import keras

    return [keras.InputSpec(shape=classifier.input_shape, dtype="uint8", name="images")]
