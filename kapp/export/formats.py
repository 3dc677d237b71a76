"""The formats of an export: one function per format writes a Keras model to a folder."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from kapp.cli import start_keras, suppress_stderr
from kapp.errors import ConfigError, KappError
from kapp.records import ExportFormat

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
# The main file of an export.
FILES = {"saved_model": "saved_model.pb", "onnx": "model.onnx", "litert": "model.tflite"}
IMAGES = "images"  # the input of an export
PROBABILITIES, CLASS_NAME = "probabilities", "class_name"
OUTPUTS = (PROBABILITIES, CLASS_NAME)  # its outputs, in this order where the format has one
RUNTIME_PACKAGES = {"saved_model": ["tensorflow"], "onnx": ["onnxruntime"], "litert": ["ai_edge_litert"]}
EXPORT_PACKAGES = {  # to write an export, load it and compare it with its network
    "saved_model": ["tensorflow"],
    "onnx": ["tensorflow", "tf2onnx", "onnxruntime"],
    "litert": ["tensorflow", "ai_edge_litert"],
}


def check_packages(format: str, packages: Mapping[str, Sequence[str]]) -> None:
    """Check that those of `packages` that `format` needs are installed.

    Raises:
        ConfigError: one of them isn't.
    """
    for package in packages[format]:
        if find_spec(package) is None:
            name = package.replace("_", "-")
            raise ConfigError(f"{format} needs {name}, which isn't installed: pip install {name}.")


def start_tensorflow() -> None:
    """Start Keras on TensorFlow, which writes every format, whatever backend trained the network.

    Raises:
        ConfigError: Keras runs on another backend in this process already.
    """
    start_keras("tensorflow")
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()} in this process, but exports need TensorFlow. "
            "Export in another process: python -m kapp.recipes.export."
        )


def write(classifier: Any, classes: Sequence[str], format: ExportFormat, folder: Path) -> None:
    """Write `classifier` to `folder`.

    The export maps `images`, uint8 (n, height, width, channels), to `probabilities`, float32 (n, classes),
    and `class_name`, string (n,): the name of the most probable class.

    Args:
        classifier: a float32 `keras.Model` on the TensorFlow backend, from uint8 images to probabilities.
        classes: their names, in the order of the probabilities.
        folder: an existing folder.

    Raises:
        KappError: the format can't express a layer of the model.
    """
    writers = {"saved_model": _write_saved_model, "onnx": _write_onnx, "litert": _write_litert}
    try:
        with suppress_stderr():
            writers[format](_tf_module(classifier, classes), folder)
    except Exception as error:  # each of the three converters raises its own
        first_line = str(error).strip().partition("\n")[0]
        raise KappError(f"{classifier.name} can't be exported to {format}: {first_line}") from error


def model_path(format: str, folder: Path) -> Path:
    """What a runtime opens of the export in `folder`: the folder itself for a SavedModel, else a file."""
    return folder if format == "saved_model" else folder / FILES[format]


def _tf_module(classifier: Any, classes: Sequence[str]) -> Any:
    """A `tf.Module` with the function `serve`, which every format is written from.

    `classifier.export` is no alternative: a Keras model has no string output, and what Keras 3.15 exports
    contains every weight twice.
    """
    import tensorflow as tf

    def serve(images: Any) -> dict[str, Any]:
        probabilities = classifier(images, training=False)
        best = tf.argmax(probabilities, axis=1)
        return {PROBABILITIES: probabilities, CLASS_NAME: tf.gather(tf.constant(list(classes)), best)}

    images = tf.TensorSpec((None, *classifier.input_shape[1:]), tf.uint8, name=IMAGES)
    module = tf.Module()
    module.weights = [variable.value for variable in classifier.variables]
    module.serve = tf.function(serve, input_signature=[images])
    return module


def _write_saved_model(module: Any, folder: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(module, folder, signatures=module.serve)


def _write_onnx(module: Any, folder: Path) -> None:
    import onnxruntime
    import tf2onnx

    file = folder / FILES["onnx"]
    model, _ = tf2onnx.convert.from_function(module.serve, module.serve.input_signature)
    model.graph.output.sort(key=lambda output: OUTPUTS.index(output.name))  # tf2onnx sorts them by name
    file.write_bytes(model.SerializeToString())
    onnxruntime.InferenceSession(file)  # tf2onnx writes unknown operations without an error


def _write_litert(module: Any, folder: Path) -> None:
    import tensorflow as tf
    from ai_edge_litert.tools import flatbuffer_utils

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    # Only LiteRT's own operations: few devices can run TensorFlow's.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    model = flatbuffer_utils.convert_bytearray_to_object(converter.convert())
    signature = {output.name.decode(): output.tensorIndex for output in model.signatureDefs[0].outputs}
    model.subgraphs[0].outputs = [signature[name] for name in OUTPUTS]  # the converter sorts them by name
    (folder / FILES["litert"]).write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
