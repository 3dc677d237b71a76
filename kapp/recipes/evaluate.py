"""Evaluate a trained classifier of any format, on labeled images or on your own image files.

    python -m kapp.recipes.evaluate --saved-model runs/train-linear_3-.../export/saved_model --dataset cifar10

leaves evaluations/NAME/ with report.md, evaluation.json, predictions.csv and figures/: accuracy with its 95%
interval, scores per class, calibration, the worst mistakes, speed and size. Takes less than a minute on two
CPU cores. --run, --keras, --onnx and --litert evaluate the other formats; `--compare-with PATH`, of any
format, compares a second model on the same images; `--images FOLDER` predicts the classes of image files.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from kapp import cli, data, records
from kapp.data import Dataset, image_files, sources
from kapp.data.dataset import are_indices
from kapp.errors import ConfigError, KappError
from kapp.export import predictor, scoring
from kapp.export.predictor import Predictor, StoredModel
from kapp.fileio import atomic_folder, refuse_folder, refuse_inputs
from kapp.metrics import classification, significance
from kapp.progress import printable
from kapp.recipes.settings import OptionalFile, OptionalFolder, check_min, flag
from kapp.records import Evaluation, RunSummary, UnlabeledEvaluation
from kapp.run_folder import file_name

FORMATS = ("saved_model", "run", "keras", "onnx", "litert")  # each is a flag
EVALUATION_FILE = "evaluation.json"
DEFAULT_SIZE = 224  # pixels; height and width of image files for a model that takes any size
MAX_PRINTED = 20  # image files
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "onnxruntime", "ai-edge-litert")


@dataclass(frozen=True)
class Config:
    saved_model: OptionalFolder = None
    """The folder of a SavedModel."""
    run: OptionalFolder = None
    """The folder of a finished run; computed in float32, as it is exported."""
    keras: OptionalFile = None
    """A .keras file, likewise."""
    onnx: OptionalFile = None
    """An .onnx file."""
    litert: OptionalFile = None
    """A .tflite file."""
    compare_with: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """A second model of any of these formats, compared with the first on the same images."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """The data set to evaluate on, named as in training (default: the one that the model was trained on)."""
    split: Literal["test", "validation"] = "test"
    """validation: the images on which training selected the best network."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """The folder of the data sets (default: that of --run, else $KAPP_DATA_DIR or ~/.cache/kapp)."""
    images: OptionalFolder = None
    """A folder with your own image files (.png, .jpg), instead of a data set."""
    batch_size: int = 500
    """Images per batch. The latency of one image is measured as well."""
    allow_unverified: bool = False
    """Load a SavedModel without a manifest, and files that differ from their manifest."""
    out: OptionalFolder = None
    """The folder of the evaluation (default: evaluations/NAME)."""
    overwrite: bool = False
    """Replace an earlier evaluation."""

    def check(self) -> None:
        """Refuse wrong values before a runtime is imported.

        Raises:
            ConfigError: with what was received and what is accepted.
            KappError: the files of a model aren't those that its manifest lists, or a run isn't finished.
        """
        paths = {format: getattr(self, format) for format in FORMATS if getattr(self, format) is not None}
        if len(paths) != 1:
            flags = ", ".join(map(flag, FORMATS))
            raise ConfigError(f"evaluate needs one model: one of {flags}. --compare-with adds a second one.")
        ((format, path),) = paths.items()
        if (found := predictor.find_format(path)) != format:
            raise ConfigError(f"{flag(format)} is {path}, which has another format: use {flag(found)}.")
        if self.images is not None and (self.compare_with or self.dataset):
            raise ConfigError("--images excludes --dataset and --compare-with: image files have no labels.")
        cli.backend()
        check_min(self, 1, "batch_size")
        models = self.find_models()
        for model in models:
            model.check(self.allow_unverified)
        if self.images is not None:
            image_files.find(self.images)
        else:
            sources.check(self.dataset_name(models[0].run))
            sources.check_data_dir(self.data_dir)
        folder = self.folder(models[0])
        refuse_folder(folder, EVALUATION_FILE, "evaluation", self.overwrite)
        refuse_inputs(folder, [*(model.path for model in models), *([self.images] if self.images else [])])

    def find_models(self) -> list[StoredModel]:
        """The model to evaluate and, if there is one, the model to compare it with."""
        paths = [getattr(self, format) for format in FORMATS] + [self.compare_with]
        return [predictor.find(path) for path in paths if path is not None]

    def dataset_name(self, run: RunSummary | None) -> str:
        """The name of the data set to evaluate on: that of --dataset, or of the `run` that trained the model.

        Raises:
            ConfigError: there is neither.
        """
        name = self.dataset or (run.dataset if run else None)
        if name is None:
            raise ConfigError(
                "the data set of the model's training is unknown: add --dataset NAME, or --images FOLDER for "
                "image files."
            )
        return name

    def folder(self, model: StoredModel) -> Path:
        """The folder of the evaluation."""
        if self.out is not None:
            return self.out
        if self.images is not None:
            images = self.images.resolve().name
        else:
            images = file_name(self.dataset_name(model.run))
            images += "" if self.split == "test" else f"-{self.split}"
        return Path("evaluations") / f"{model.label}-on-{images}"


def main(config: Config) -> None:
    """Evaluate the models of `config`, and write the report."""
    found = config.find_models()
    models = [each.load(config.allow_unverified) for each in found]
    with atomic_folder(config.folder(found[0])) as folder:
        (folder / "figures").mkdir()
        if config.images is not None:
            evaluate_image_files(config, config.images, models[0], folder)
        else:
            evaluate_dataset(config, load_dataset(config, found[0].data_dir, models), models, folder)
    print(f"report: {config.folder(found[0]) / 'report.md'}", flush=True)


def load_dataset(config: Config, data_dir: str | None, models: Sequence[Predictor]) -> Dataset:
    """The data set to evaluate on. Its validation images are those that no model was trained on."""
    name, data_dir = config.dataset_name(models[0].run), config.data_dir or data_dir
    dataset = data.load(name, data_dir=data_dir)
    if config.split == "test" or dataset.has_own_validation:
        return dataset
    shared = scoring.shared_validation_images(dataset, models)
    return data.load(name, data_dir=data_dir, validation_images=shared)


def evaluate_dataset(config: Config, dataset: Dataset, models: Sequence[Predictor], folder: Path) -> None:
    """Evaluate one or two models on labeled images, and write the results to `folder`."""
    split = dataset.test if config.split == "test" else dataset.validation
    images, labels = split.images, split.labels
    model, is_comparison = models[0], len(models) == 2
    classes = dataset.classes if are_indices(model.classes) else model.classes  # of the two, those with names

    probabilities = [scoring.predict(each, dataset, images, config.batch_size) for each in models]
    predicted = [each.argmax(axis=1) for each in probabilities]
    scores = [
        scoring.score(each, predictions, images, labels, config.batch_size)
        for each, predictions in zip(models, probabilities)
    ]
    confusion = classification.confusion(labels, predicted[0], len(classes))
    evaluation = Evaluation(
        dataset=dataset.name,
        data_sha256=dataset.checksum,
        split=config.split,
        images=len(labels),
        reported_accuracy=scoring.reported_accuracy(model, config.split, dataset),
        same_data=model.run is None or model.run.data_sha256 == dataset.checksum,
        model=scores[0],
        by_class=classification.class_scores(confusion, classes),
        calibration=classification.calibration_bins(scoring.to_logits(probabilities[0]), labels),
        software=scoring.software(*PACKAGES),
        compared_with=scores[1] if is_comparison else None,
        comparison=significance.compare(predicted[0], predicted[1], labels) if is_comparison else None,
    )

    columns: dict[str, Iterable] = {"image": split.samples, "true": [classes[i] for i in labels]}
    for suffix, predictions in zip(("", "_second"), probabilities):
        columns |= predicted_columns(predictions, classes, suffix)
    write_predictions(folder, columns)
    records.write(evaluation, folder / EVALUATION_FILE)
    report(evaluation, confusion, images, labels, probabilities[0], folder)


def report(
    evaluation: Evaluation,
    confusion: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    folder: Path,
) -> None:
    """Draw the figures of an evaluation, write report.md, and print the result.

    Args:
        confusion: (classes, classes), counts of images.
        images: uint8 (n, height, width, channels).
        labels: (n,).
        probabilities: (n, classes), of the first model.
    """
    import pandas as pd

    from kapp.reporting import evaluation_report, figures, prediction_figures

    classes = [row.name for row in evaluation.by_class]
    title = f"{evaluation.model.name} on {evaluation.dataset}"
    prediction_figures.reliability(evaluation.calibration, folder / "figures" / "reliability.png", title)
    figures.confusion(pd.DataFrame(confusion, classes, classes), folder / "figures" / "confusion.png", title)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    mistakes = np.flatnonzero(predicted != labels)
    worst = mistakes[np.argsort(-confidence[mistakes], kind="stable")][: prediction_figures.MAX_IMAGES]
    if len(worst):
        captions = [
            f"{classes[labels[i]]}\nclassified as {classes[predicted[i]]}\n{confidence[i]:.1%}" for i in worst
        ]
        prediction_figures.image_grid(
            images[worst], captions, folder / "figures" / "mistakes.png", f"{title}: worst mistakes"
        )
    evaluation_report.write(evaluation, folder)
    print(evaluation_report.headline(evaluation), evaluation_report.speed(evaluation), sep="\n")
    if evaluation.comparison:
        print(evaluation_report.verdict(evaluation))


def evaluate_image_files(config: Config, images_folder: Path, model: Predictor, folder: Path) -> None:
    """Predict the classes of image files without labels, print them, and write them to `folder`."""
    from kapp.reporting import evaluation_report, prediction_figures

    height, width, channels = (side or DEFAULT_SIZE for side in model.runtime.image_shape)
    files = image_files.find(images_folder)
    images = np.stack([image_files.read(file, (height, width, channels)) for file in files])
    probabilities = model.predict(images, config.batch_size)
    classes = model.classes or tuple(map(str, range(probabilities.shape[1])))
    if len(classes) != probabilities.shape[1]:
        raise KappError(
            f"{model.name} predicts {probabilities.shape[1]} classes, but its manifest lists {len(classes)}: "
            "the manifest is of another model."
        )

    names = [printable(file.name) for file in files]
    columns = predicted_columns(probabilities, classes)
    results = [f"{label}, {confidence:.1%}" for label, confidence in zip(*columns.values())]
    for name, result in list(zip(names, results))[:MAX_PRINTED]:
        print(f"{name}: {result}")
    if len(names) > MAX_PRINTED:
        print(f"and {len(names) - MAX_PRINTED} more, in predictions.csv")
    by_class = {f"p_{name}": probabilities[:, i].round(6).tolist() for i, name in enumerate(classes)}
    write_predictions(folder, {"image": names, **columns, **by_class})
    evaluation = UnlabeledEvaluation(
        model=model.name,
        format=model.format,
        images=len(names),
        image_size=(height, width),
        software=scoring.software(*PACKAGES),
    )
    records.write(evaluation, folder / EVALUATION_FILE)
    title = f"{printable(images_folder.name)}, classified by {model.name}"
    captions = [f"{name[-24:]}\n{result}" for name, result in zip(names, results)]
    prediction_figures.image_grid(images, captions, folder / "figures" / "images.png", title)
    evaluation_report.write(evaluation, folder)


def predicted_columns(probabilities: np.ndarray, classes: Sequence[str], suffix: str = "") -> dict[str, list]:
    """Columns of `predictions.csv`: the name of each image's most probable class, and its probability."""
    return {
        f"predicted{suffix}": [classes[i] for i in probabilities.argmax(axis=1)],
        f"confidence{suffix}": probabilities.max(axis=1).round(6).tolist(),
    }


def write_predictions(folder: Path, columns: Mapping[str, Iterable]) -> None:
    """Write `predictions.csv` to `folder`, one row per image."""
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values()))


if __name__ == "__main__":
    cli.run(Config, main)
