"""The model card of an export: what it is, how well it does, how to use it, what it can't."""

from collections.abc import Mapping
from typing import Any

from kapp.reporting.tables import amount, interval

# Five lines that load the export and answer one image, run as they stand by the tests.
CODE = {
    "saved_model": """\
import numpy as np, tensorflow as tf
model = tf.saved_model.load(".")  # this folder
images = np.zeros((1, {height}, {width}, {channels}), "uint8")  # yours
answer = model.serve(images)
print(answer["class_name"][0].numpy().decode(), answer["probabilities"][0].numpy().max())""",
    "onnx": """\
import numpy as np, onnxruntime
model = onnxruntime.InferenceSession("model.onnx")
images = np.zeros((1, {height}, {width}, {channels}), "uint8")  # yours
names, probabilities = model.run(["class_name", "probabilities"], {{"images": images}})
print(names[0], probabilities[0].max())""",
    "litert": """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter("model.tflite").get_signature_runner()
answer = model(images=np.zeros((1, {height}, {width}, {channels}), "uint8"))  # yours
print(answer["class_name"][0].decode(), answer["probabilities"][0].max())""",
}


def card(facts: Mapping[str, Any]) -> str:
    """The text of README.md for the export that the manifest's `facts` describe."""
    height, width, channels = facts["input"]["shape"][1:]
    code = CODE[facts["format"]].format(height=height, width=width, channels=channels)
    return (
        "\n\n".join(
            [
                f"# {facts['name']}, {facts['format']}",
                _what(facts),
                "## How well it does",
                _accuracy(facts),
                _parity(facts),
                "## Input and output",
                f"- **In**: `images`, uint8 (n, {height}, {width}, {channels}), values 0 to 255, any n. "
                "Scaling and normalisation are inside.\n"
                f"- **Out**: `probabilities`, float32 (n, {len(facts['classes'])}), in this order: "
                f"{', '.join(facts['classes'])}; `class_name`, string (n,): the most probable's.",
                "## How to use it",
                f"In this folder:\n\n```python\n{code}\n```",
                "## Limits",
                _limits(facts),
                "`manifest.json` holds all of this for programs, with the SHA-256 of every file.",
            ]
        )
        + "\n"
    )


def _what(facts: Mapping[str, Any]) -> str:
    source = facts["source"]
    size = f"{amount(facts['parameters'])} parameters"
    if facts.get("flops"):
        size += f", {amount(facts['flops'])} floating-point operations an image"
    trained = [f"An image classifier of {len(facts['classes'])} classes: {size}."]
    if "run" in source:
        teachers, weight = source.get("teachers"), source.get("label_weight")
        taught = "labels" if not teachers or weight == 1 else " + ".join(teachers)
        if teachers and weight and weight < 1:
            taught += f" and, by {weight:.0%}, labels"
        trained += [
            f"Trained on {facts['dataset']} by kapp, from {taught}, seed {source['seed']}, on "
            f"{source['backend']} in {source['precision']}: run `{source['run']}`, commit "
            f"{source['commit'] or 'unknown'}."
        ]
    else:
        trained += [f"Exported by kapp from `{source['file']}`, which was trained elsewhere."]
    return " ".join(trained)


def _accuracy(facts: Mapping[str, Any]) -> str:
    if "test_accuracy" not in facts:
        return "Not known: measure it on your data with `python -m kapp.recipes.evaluate`."
    words = interval(facts["test_accuracy"], *facts["test_interval"])
    return (
        f"{words} of {facts['test_images']:,} test images of {facts['dataset']}, scored once by the run that "
        "trained it. The 95% interval (Wilson's) counts the luck of the test images, not of the seed."
    )


def _parity(facts: Mapping[str, Any]) -> str:
    parity = facts["parity"]
    return (
        f"Loaded again and compared with the network on {parity['images']} images ({parity['of']}), its "
        f"probabilities differ by at most {parity['largest_difference']:.1e} (accepted: "
        f"{parity['tolerance']:.0e}); the class is the same for {parity['same_class']:.1%}."
    )


def _limits(facts: Mapping[str, Any]) -> str:
    height, width, _ = facts["input"]["shape"][1:]
    code = {
        "saved_model": "- A SavedModel is a program: load only one whose origin you know.\n",
        "onnx": "",
        "litert": "",
    }[facts["format"]]
    return (
        f"- It names one of its classes for any image, also one of none of them.\n"
        f"- It was made for images of {height}x{width} pixels"
        + (f" like those of {facts['dataset']}" if facts.get("dataset") else "")
        + "; on others it does worse than the figure above.\n"
        "- A probability is the network's own confidence; `python -m kapp.recipes.evaluate` says how far to "
        "trust it.\n" + code + "- No claim is made about fairness, safety or any particular use."
    )
