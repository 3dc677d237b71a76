"""Export a trained network as a file that needs no kapp: uint8 images in, probabilities and class names out.

    python -m kapp.recipes.export --run runs/train-linear_3-cifar10-s0-... --format saved_model onnx litert

leaves export/FORMAT/ in the run's folder: the model, manifest.json with the classes and the SHA-256 of every
file, and a model card, README.md. Each export is loaded again and compared with the network on test images;
seconds on two CPU cores. `--keras FILE --classes cat dog ...` exports a network that kapp didn't train; it
must take images of 0 to 255. Exports go through TensorFlow, whatever backend trained the network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import kapp
from kapp import cli, data, machine
from kapp.data import sources
from kapp.errors import Failure, WrongValue
from kapp.files import checksum, refuse_folder, replacing_folder
from kapp.recipes.settings import OpenFolder, OpenSize, above_zero
from kapp.runs import Run
from kapp.serving import formats, manifest, predictor
from kapp.serving.formats import Format

IMAGES = 500  # to compare an export with its network on
PACKAGES = ("keras", "tensorflow", "numpy", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


@dataclass(frozen=True)
class Config:
    run: OpenFolder = None
    """The folder of a finished run."""
    keras: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Or a .keras file."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    """With --keras: the names of its classes, in the order of its answers."""
    format: tuple[Format, ...] = ("saved_model",)
    """One or several."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose test images to compare on (default: the run's; noise where there are none)."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where data sets are kept (default: the run's --data-dir)."""
    tolerance: OpenSize = None
    """The largest difference of a probability from the network's own that is accepted (default: 1e-4; 5e-2
    for a network trained in bfloat16, which is exported in float32)."""
    out: OpenFolder = None
    """The export's folder (default: export/FORMAT in the run's folder, exports/STEM/FORMAT for a file). Of
    several formats, each gets a folder in it."""
    overwrite: bool = False
    """Replace an earlier export."""

    def check(self) -> None:
        """Refuse wrong values before Keras is imported.

        Raises:
            WrongValue: what was received, what is accepted.
        """
        if (self.run is None) == (self.keras is None):
            raise WrongValue("export needs --run FOLDER or --keras FILE, and one of them only.")
        if not self.format:
            raise WrongValue(f"--format needs at least one of {', '.join(formats.FORMATS)}.")
        if self.run is not None:
            Run(self.run).result  # noqa: B018  (refuses an unfinished run)
            if self.classes:
                raise WrongValue("--classes goes with --keras: a run knows the names of its classes.")
        if self.keras is not None:
            if predictor.kind(self.keras) != "keras":
                raise WrongValue(f"--keras is {self.keras}: it must be a .keras file.")
            if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
                raise WrongValue(
                    "--keras needs --classes: the names of its classes, at least 2, no two alike."
                )
        sources.check_folder(self.data_dir)
        if self.dataset is not None:
            sources.check(self.dataset)
        above_zero(self, "tolerance")
        for format in self.format:
            formats.check(format)
            refuse_folder(self.folder(format), manifest.NAME, "export", self.overwrite)

    def folder(self, format: Format) -> Path:
        """Where the export of that format goes."""
        if self.out is not None:
            return self.out if len(self.format) == 1 else self.out / format
        source = self.run / "export" if self.run else Path("exports") / (self.keras or Path()).stem
        return source / format


def main(config: Config) -> None:
    facts = _of_run(Run(config.run)) if config.run else _of_file(config)
    images, shown = _images(config, facts)
    formats.start()
    from kapp.models import saved
    from kapp.models.networks import flops
    from kapp.serving import parity
    from kapp.serving.card import card
    from kapp.serving.classifier import check, classifier, portable

    network = saved.load(_file(config))
    check(network)
    if network.output_shape[-1] != len(facts["classes"]):
        raise WrongValue(
            f"the network knows {network.output_shape[-1]} classes, {len(facts['classes'])} are named."
        )
    if images is None or images.shape[1:] != network.input_shape[1:]:
        images, shown = _noise(network.input_shape[1:]), "noise: no test images of its size were at hand"
    expected = parity.reference(network)(images)
    whole = classifier(portable(network))
    precision = parity.precision(network)
    tolerance = config.tolerance or parity.TOLERANCE[precision]
    facts |= {
        "input": {"name": "images", "shape": [None, *network.input_shape[1:]], "dtype": "uint8"},
        "output": {
            formats.PROBABILITIES: {"shape": [None, len(facts["classes"])], "dtype": "float32"},
            formats.CLASS_NAME: {"shape": [None], "dtype": "string"},
        },
        "parameters": network.count_params(),
        "flops": flops(network),
        "versions": machine.versions(*PACKAGES),
    }
    for format in dict.fromkeys(config.format):
        folder = config.folder(format)
        with replacing_folder(folder) as partial:
            formats.write(whole, facts["classes"], format, partial)
            manifest.write(partial, {"format": format, **facts})
            measured = parity.measure(expected, predictor.load(partial), images, tolerance)
            kept = {"format": format, **facts, "parity": {**measured, "of": shown}}
            (partial / manifest.CARD).write_text(card(kept), encoding="utf-8")
            manifest.write(partial, kept)
        print(
            f"{format}: {folder}, at most {measured['largest_difference']:.1e} from the network's "
            f"probabilities ({len(images)} images: {shown})",
            flush=True,
        )


def _of_run(run: Run) -> dict[str, Any]:
    """What the manifest says of a network that kapp trained."""
    result = run.result
    origin = ("seed", "teachers", "objective", "epochs", "backend", "precision", "commit")
    scores = ("test_accuracy", "test_interval", "test_images", "test_loss", "calibration_error")
    return {
        "kapp": kapp.__version__,
        "name": result["model"],
        "classes": list(run.classes),
        "dataset": result["dataset"],
        "data_sha256": result["data_sha256"],
        "validation": result.get("validation"),  # so many images were held out; None is a fifth
        **{name: result[name] for name in scores},
        "source": {
            "run": run.folder.resolve().name,
            **{name: result[name] for name in origin},
            "label_weight": result.get("label_weight"),
            "model_sha256": checksum(run.model_file),
        },
    }


def _of_file(config: Config) -> dict[str, Any]:
    """What the manifest says of a network that came in a file."""
    file = _file(config)
    return {
        "kapp": kapp.__version__,
        "name": file.stem,
        "classes": list(config.classes),
        "source": {"file": file.name, "model_sha256": checksum(file)},
    }


def _file(config: Config) -> Path:
    """The .keras file that is exported."""
    return Run(config.run).model_file if config.run else config.keras or Path()


def _images(config: Config, facts: dict[str, Any]) -> tuple[np.ndarray | None, str]:
    """Test images, uint8 (n, height, width, channels), and what they are; None where they aren't at hand."""
    name = config.dataset or facts.get("dataset")
    if name is None:
        return None, ""
    data_dir = config.data_dir or (Run(config.run).data_dir if config.run else None)
    try:
        dataset = data.load(name, data_dir=data_dir)
    except (WrongValue, Failure) as error:
        if config.dataset:
            raise
        print(f"without test images: {error}", flush=True)
        return None, ""
    return dataset.images[dataset.test.samples[:IMAGES]], f"test images of {name}"


def _noise(image_shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *image_shape)).astype(np.uint8)


if __name__ == "__main__":
    cli.run(Config, main)
