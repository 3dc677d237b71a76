"""The model card of an export: its origin, accuracy, use and limits."""

from kapp.records import ExportManifest, Parity, RunSummary
from kapp.reporting.markdown import code, escape
from kapp.reporting.tables import format_si, interval

# Five lines that load the export and predict one image. The tests run them unchanged.
CODE = {
    "saved_model": """\
import numpy as np, tensorflow as tf
model = tf.saved_model.load(".")  # this folder
images = np.zeros((1, {height}, {width}, {channels}), "uint8")  # your images
outputs = model.serve(images)
print(outputs["class_name"][0].numpy().decode(), outputs["probabilities"][0].numpy().max())""",
    "onnx": """\
import numpy as np, onnxruntime
model = onnxruntime.InferenceSession("model.onnx")
images = np.zeros((1, {height}, {width}, {channels}), "uint8")  # your images
probabilities, names = model.run(None, {{"images": images}})
print(names[0], probabilities[0].max())""",
    "litert": """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter("model.tflite").get_signature_runner()
outputs = model(images=np.zeros((1, {height}, {width}, {channels}), "uint8"))  # your images
print(outputs["class_name"][0].decode(), outputs["probabilities"][0].max())""",
}


def model_card(manifest: ExportManifest) -> str:
    """The Markdown text of an export's README.md."""
    _, height, width, channels = manifest.inputs["images"].shape
    code = CODE[manifest.format].format(height=height, width=width, channels=channels)
    return f"""\
# {escape(manifest.name)}, {manifest.format}

{_origin(manifest)}

## Accuracy

{_accuracy(manifest.run)}

{_parity(manifest.parity)}

## Inputs and outputs

- **Input**: `images`, uint8 (n, {height}, {width}, {channels}), values from 0 to 255, any n. The model \
scales and normalizes them.
- **Outputs**: `probabilities`, float32 (n, {len(manifest.classes)}), in this order: \
{escape(", ".join(manifest.classes))}; `class_name`, string (n,), the most probable class.

## Use

Run in this folder:

```python
{code}
```

## Limits

{_limits(manifest)}

`manifest.json` contains the same facts for programs, with the SHA-256 of every file.
"""


def _origin(manifest: ExportManifest) -> str:
    size = f"{format_si(manifest.parameters)} parameters"
    if manifest.flops:
        size += f", {format_si(manifest.flops)} floating-point operations per image"
    summary = f"An image classifier with {len(manifest.classes)} classes: {size}."
    run = manifest.run
    if run is None:
        return f"{summary} Exported by kapp from {code(manifest.source_file)}, which kapp did not train."
    pretraining = f" Pretraining: {code(run.source)}." if run.source else ""
    return (
        f"{summary} Trained by kapp on {escape(run.dataset)}, from {escape(_targets(run))}, with seed "
        f"{run.seed}, on {escape(run.backend)} in {escape(run.precision)}.{pretraining} Run "
        f"{code(run.name)}, commit {escape(run.commit or 'unknown')}."
    )


def _targets(run: RunSummary) -> str:
    """What the network was trained to predict."""
    if not run.teachers or run.distill_weight == 0 or (run.distill_weight is None and run.label_weight == 1):
        return "labels"
    logits = f"the logits of {' + '.join(run.teachers)}"
    return f"{logits} and labels (label weight {run.label_weight:g})" if run.label_weight else logits


def _accuracy(run: RunSummary | None) -> str:
    if run is None:
        return "Unknown. Measure it on your data with `python -m kapp.recipes.evaluate`."
    accuracy = interval(run.test_accuracy, *run.test_interval)
    return (
        f"{accuracy} on {run.test_images:,} test images of {escape(run.dataset)}, measured once, after "
        "training. The 95% interval (Wilson) covers the choice of test images, not the choice of the seed."
    )


def _parity(parity: Parity) -> str:
    return (
        f"The export was loaded and compared with the network on {parity.images} images "
        f"({escape(parity.compared_on)}). Probabilities differ by at most {parity.max_difference:.1e} "
        f"(tolerance: {parity.tolerance:.0e}); the predicted class is the same for {parity.agreement:.1%} of "
        "the images."
    )


def _limits(manifest: ExportManifest) -> str:
    _, height, width, _ = manifest.inputs["images"].shape
    similar = f" similar to those of {escape(manifest.run.dataset)}" if manifest.run else ""
    limits = [
        "The model predicts one of its classes for every image, even if the image shows none of them.",
        f"It was made for images of {height}x{width} pixels{similar}. Other images lower its accuracy.",
        "Its probabilities can be too high or too low. Measure this with `python -m kapp.recipes.evaluate`.",
        "Fairness, safety and fitness for a particular use have not been tested.",
    ]
    if manifest.format == "saved_model":
        limits.insert(3, "A SavedModel can run code: load it only if you trust its origin.")
    return "\n".join(f"- {limit}" for limit in limits)
