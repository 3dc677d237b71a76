"""Export a trained network to a file that runs without kapp: images in, probabilities and class names out.

    python -m kapp.recipes.export --run runs/train-linear_3-cifar10-s0-... --format saved_model onnx litert

leaves export/FORMAT/ in the run folder: the model, a model card (README.md), and manifest.json with the
classes and the SHA-256 of every file. Each export is loaded and compared with the network on test images.
Takes seconds on two CPU cores. `--keras FILE --classes cat dog ...` exports a network that kapp didn't train;
its inputs must be images with values from 0 to 255. Exports need TensorFlow, whatever backend trained the
network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from kapp import cli, data
from kapp.data import sources
from kapp.data.array_cache import check_classes
from kapp.errors import ConfigError, KappError
from kapp.export import formats, manifest, predictor, runtimes, scoring
from kapp.export.predictor import Predictor, StoredModel
from kapp.fileio import atomic_folder, checksum, refuse_folder, refuse_inputs
from kapp.models.keras_file import check_classifier, load_keras_file
from kapp.recipes.settings import OptionalFloat, OptionalFolder, check_positive
from kapp.records import ExportFormat, ExportManifest, TensorSpec
from kapp.run_folder import Run

PARITY_IMAGES = 500  # on which an export is compared with its network
PACKAGES = ("keras", "tensorflow", "numpy", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


@dataclass(frozen=True)
class Config:
    run: OptionalFolder = None
    """The folder of a finished run."""
    keras: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """A .keras file, instead of a run."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    """With --keras: the names of its classes, in the order of its outputs."""
    format: tuple[ExportFormat, ...] = ("saved_model",)
    """One or several."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """The data set with the test images to compare on (default: that of the run; noise without one)."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """The folder of the data sets (default: that of the run)."""
    tolerance: OptionalFloat = None
    """The largest accepted difference of a probability between export and network (default: 1e-4; 5e-2 for a
    network trained in bfloat16, which is exported in float32)."""
    out: OptionalFolder = None
    """The export's folder, with a subfolder per format if there are several (default: export/FORMAT in the
    run folder, exports/STEM/FORMAT for a file)."""
    overwrite: bool = False
    """Replace an earlier export."""

    def check(self) -> None:
        """Refuse wrong values before Keras is imported.

        Raises:
            ConfigError: with what was received and what is accepted.
            KappError: the run isn't finished.
        """
        if (self.run is None) == (self.keras is None):
            raise ConfigError("export needs either --run FOLDER or --keras FILE.")
        if not self.format:
            raise ConfigError(f"--format needs at least one of {', '.join(formats.FORMATS)}.")
        if self.keras is None and self.classes:
            raise ConfigError("--classes needs --keras: the classes of a run are known.")
        if self.keras is not None:
            if predictor.find_format(self.keras) != "keras":
                raise ConfigError(f"--keras is {self.keras}: it must be a .keras file.")
            if len(self.classes) < 2:
                raise ConfigError("--keras needs --classes: at least 2 names, all different.")
            check_classes(self.classes, "--classes")
        if self.run is not None:
            manifest.summarize(Run(self.run))
        sources.check_data_dir(self.data_dir)
        if self.dataset is not None:
            sources.check(self.dataset)
        check_positive(self, "tolerance")
        for format in self.format:
            formats.check_packages(format, formats.EXPORT_PACKAGES)
            refuse_folder(self.folder(format), manifest.FILE, "export", self.overwrite)
            refuse_inputs(self.folder(format), [self.source])

    def folder(self, format: ExportFormat) -> Path:
        """The folder of the export in that format."""
        if self.out is not None:
            return self.out if len(self.format) == 1 else self.out / format
        parent = self.run / "export" if self.run else Path("exports") / self.source.stem
        return parent / format

    @property
    def source(self) -> Path:
        """The path of the network to export."""
        return self.run or self.keras or Path()


def main(config: Config) -> None:
    """Write each format of `config`, and compare it with the network."""
    source = predictor.find(config.source)
    formats.start_tensorflow()
    from kapp.export import classifier, parity
    from kapp.export.model_card import model_card
    from kapp.models.float32 import float32_copy
    from kapp.models.flops import count_flops

    network = load_keras_file(source.file)
    check_classifier(network, str(source.path))
    classes = source.classes or config.classes
    if network.output_shape[-1] != len(classes):
        raise ConfigError(
            f"the network has {network.output_shape[-1]} classes, but --classes names {len(classes)}."
        )
    images, compared_on = comparison_images(config, source, network.input_shape[1:])
    image_shape = images.shape[1:]
    expected = parity.reference_probabilities(network, images)
    tolerance = config.tolerance or parity.default_tolerance(network)
    model = classifier.build_classifier(float32_copy(network), image_shape)

    for format in dict.fromkeys(config.format):
        with atomic_folder(config.folder(format)) as folder:
            formats.write(model, classes, format, folder)
            runtime = runtimes.load(format, formats.model_path(format, folder))
            export = Predictor(source.name, format, runtime)
            measured = parity.measure(expected, export, images, tolerance, compared_on)
            contents = ExportManifest(
                format=format,
                name=source.name,
                classes=classes,
                inputs={formats.IMAGES: TensorSpec((None, *image_shape), "uint8")},
                outputs={
                    formats.PROBABILITIES: TensorSpec((None, len(classes)), "float32"),
                    formats.CLASS_NAME: TensorSpec((None,), "string"),
                },
                parameters=network.count_params(),
                flops=count_flops(network),
                parity=measured,
                run=source.run,
                source_file=source.file.name,
                source_sha256=checksum(source.file),
                software=scoring.software(*PACKAGES),
                sha256={},  # `manifest.write` computes them
            )
            (folder / manifest.MODEL_CARD).write_text(model_card(contents), encoding="utf-8")
            manifest.write(contents, folder)
        print(
            f"{format}: {config.folder(format)}, probabilities differ from the network's by at most "
            f"{measured.max_difference:.1e} ({len(images)} images: {compared_on})",
            flush=True,
        )


def comparison_images(
    config: Config, source: StoredModel, image_shape: tuple[int | None, ...]
) -> tuple[np.ndarray, str]:
    """Images to compare an export with its network on, and a description of them. The export is for images
    of their size.

    Args:
        image_shape: (height, width, channels) that the network takes; None: any.

    Returns:
        Test images, uint8 (n, height, width, channels); noise, if there are none that the network takes.

    Raises:
        ConfigError: the data set of --dataset can't be loaded, or has images of another size; or the network
            takes any size and there are no test images.
        KappError: the data set of --dataset can't be loaded.
    """
    name = config.dataset or (source.run.dataset if source.run else None)
    if name is not None:
        try:
            dataset = data.load(name, data_dir=config.data_dir or source.data_dir)
            if all(side in (None, size) for side, size in zip(image_shape, dataset.image_shape)):
                return dataset.images[dataset.test.samples[:PARITY_IMAGES]], f"test images of {name}"
            if config.dataset:
                raise ConfigError(
                    f"{name} has images of {dataset.image_shape}, the network takes {image_shape}: give "
                    "another --dataset."
                )
        except (ConfigError, KappError) as error:
            if config.dataset:
                raise
            print(f"no test images: {error}", flush=True)
    if None in image_shape:
        raise ConfigError(
            f"{source.path} takes images of any size, but an export has one size: add --dataset NAME, with "
            "images of that size."
        )
    shape = (PARITY_IMAGES, *image_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)  # type: ignore[arg-type]
    return noise, "noise: there were no test images of its size"


if __name__ == "__main__":
    cli.run(Config, main)
