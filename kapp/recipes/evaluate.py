"""Evaluate any trained classifier, wherever it comes from, on labelled images or on your own pictures.

    python -m kapp.recipes.evaluate --saved-model runs/train-linear_3-.../export/saved_model --dataset cifar10

leaves evaluations/NAME/ with report.md, evaluation.json, predictions.csv and figures/: accuracy with its 95%
interval, class by class, calibration, worst mistakes, speed and size; less than a minute on two CPU cores.
--run, --keras, --onnx and --litert evaluate the other kinds; `--against PATH`, of any kind, compares a second
model on the same images; `--images FOLDER` names what is on your own pictures. Nothing of training is needed.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from kapp import cli, data
from kapp.data import pictures, sources
from kapp.data.classes import numbered
from kapp.errors import Failure, WrongValue
from kapp.files import refuse_folder, replacing_folder, write_text
from kapp.recipes.settings import OpenFolder, at_least
from kapp.runs import Run
from kapp.serving import predictor, scoring
from kapp.serving.predictor import Predictor

OpenFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
RESULT = "evaluation.json"
PIXELS = 224  # a side, of pictures for a model that takes any size
PRINTED = 20  # pictures


@dataclass(frozen=True)
class Config:
    saved_model: OpenFolder = None
    """The folder of a SavedModel."""
    run: OpenFolder = None
    """The folder of a finished run."""
    keras: OpenFile = None
    """A .keras file."""
    onnx: OpenFile = None
    """An .onnx file."""
    litert: OpenFile = None
    """A .tflite file."""
    against: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """A second model of any of these kinds, compared with the first on the same images."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose images to evaluate on, as in training (default: what the model was trained on)."""
    split: Literal["test", "validation"] = "test"
    """validation: the images that training held out to select by."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where data sets are kept (default: that of --run, or else $KAPP_DATA_DIR or ~/.cache/kapp)."""
    images: OpenFolder = None
    """Your own pictures (.png, .jpg) instead of a data set."""
    batch_size: int = 500
    """How many images are answered at once; one image alone is timed as well."""
    trust: bool = False
    """Load a SavedModel without a manifest, and files that aren't what their manifest says."""
    out: OpenFolder = None
    """Where the evaluation goes (default: evaluations/NAME)."""
    overwrite: bool = False
    """Replace an earlier evaluation."""

    @property
    def model(self) -> Path:
        """The path of the model to evaluate."""
        return next(path for path in self._models.values() if path is not None)

    def check(self) -> None:
        """Refuse wrong values before anything large is imported.

        Raises:
            WrongValue: what was received, what is accepted.
            Failure: a model's files aren't those that its manifest lists.
        """
        given = [(kind, path) for kind, path in self._models.items() if path is not None]
        if len(given) != 1:
            flags = ", ".join(f"--{kind.replace('_', '-')}" for kind in self._models)
            raise WrongValue(f"evaluate needs one model: one of {flags}. A second one goes with --against.")
        ((kind, path),) = given
        if (found := predictor.kind(path)) != kind:
            raise WrongValue(
                f"--{kind.replace('_', '-')} is {path}, which is of another kind: give it with "
                f"--{found.replace('_', '-')}."
            )
        if self.images is not None and (self.against or self.dataset):
            raise WrongValue("--images goes without --dataset and --against: your pictures have no labels.")
        cli.backend()
        at_least(self, 1, "batch_size")
        for model in (path, self.against):
            if model is not None:
                predictor.check(model, self.trust)
        if self.images is not None:
            pictures.find(self.images)
        else:
            sources.check(self.dataset or predictor.facts(path).get("dataset") or _no_data())
            sources.check_folder(self.data_dir)
        refuse_folder(self.folder, RESULT, "evaluation", self.overwrite)

    @property
    def folder(self) -> Path:
        """Where the evaluation goes."""
        if self.out is not None:
            return self.out
        name = self.dataset or predictor.facts(self.model).get("dataset", "")
        where = self.images.resolve().name if self.images else Path(name).stem.replace(":", "_")
        if self.images is None and self.split != "test":
            where += f"-{self.split}"
        return Path("evaluations") / f"{predictor.label(self.model)}-on-{where}"

    @property
    def _models(self) -> dict[str, Path | None]:
        return {kind: getattr(self, kind) for kind in ("saved_model", "run", "keras", "onnx", "litert")}


def main(config: Config) -> None:
    model = predictor.load(config.model, config.trust)
    with replacing_folder(config.folder) as folder:
        (folder / "figures").mkdir()
        if config.images is not None:
            name_pictures(config, model, folder)
        else:
            score(config, model, folder)
    print(f"report: {config.folder / 'report.md'}", flush=True)


def score(config: Config, model: Predictor, folder: Path) -> None:
    """Evaluate `model`, and the one it is put against, on labelled images; write all of it into `folder`."""
    import pandas as pd

    from kapp.reporting import answers, comparison, evaluation, figures, scores

    name = config.dataset or model.facts["dataset"]
    other = predictor.load(config.against, config.trust) if config.against else None
    data_dir = config.data_dir or (Run(config.run).data_dir if config.run else None)
    dataset = data.load(name, data_dir=data_dir)
    if config.split == "validation":
        held_out = scoring.held_out(dataset, [model, *([other] if other else [])])
        dataset = data.load(name, data_dir=data_dir, validation=held_out)
    split = dataset.test if config.split == "test" else dataset.validation
    images, labels = split.images, split.labels
    classes = dataset.classes if numbered(model.classes) else model.classes  # or of no names

    probabilities = scoring.answers(model, dataset, images, config.batch_size)
    predicted = probabilities.argmax(axis=1)
    counts = scores.confusion(labels, predicted, len(classes))
    bins = scores.calibration_bins(scoring.logits(probabilities), labels)
    found: dict[str, Any] = {
        **scoring.circumstances(),
        "dataset": name,
        "data_sha256": dataset.checksum,
        "split": config.split,
        "images": len(labels),
        "said": scoring.said(model, config.split, dataset),
        "other_data": model.facts.get("data_sha256", dataset.checksum) != dataset.checksum,
        "model": scoring.describe(model, probabilities, images, labels, config.batch_size),
        "by_class": evaluation.by_class(counts, classes),
        "calibration": bins,
    }
    columns = {
        "image": split.samples,
        "true": [classes[i] for i in labels],
        **_called(probabilities, classes),
    }
    if other is not None:
        answers_too = scoring.answers(other, dataset, images, config.batch_size)
        found["against"] = scoring.describe(other, answers_too, images, labels, config.batch_size)
        found["comparison"] = comparison.compare(predicted, answers_too.argmax(axis=1), labels)._asdict()
        columns |= {f"{key}_against": values for key, values in _called(answers_too, classes).items()}

    title = f"{model.name} on {name}"
    drawn = ["reliability", "confusion"]
    answers.reliability(bins, folder / "figures" / "reliability.png", title)
    figures.confusion(pd.DataFrame(counts, classes, classes), folder / "figures" / "confusion.png", title)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][: answers.SHEET]
    if len(worst):
        captions = [
            f"{classes[labels[i]]}\ntaken for {classes[predicted[i]]}\n{probabilities[i].max():.1%}"
            for i in worst
        ]
        answers.sheet(
            images[worst], captions, folder / "figures" / "mistakes.png", f"{title}: worst mistakes"
        )
        drawn += ["mistakes"]
    _write_predictions(folder, columns)
    write_text(folder / RESULT, json.dumps(found, indent=2) + "\n")
    write_text(folder / "report.md", evaluation.page(found, drawn))
    print(
        evaluation.headline(found),
        evaluation.speed(found),
        *([evaluation.verdict(found)] if config.against else []),
        sep="\n",
    )


def name_pictures(config: Config, model: Predictor, folder: Path) -> None:
    """Name what is on somebody's own pictures, print it, and write it into `folder`."""
    from kapp.reporting import answers, evaluation

    assert config.images
    height, width, channels = (side or PIXELS for side in model.image_shape)
    files = pictures.find(config.images)
    images = np.stack([pictures.read(file, (height, width, channels)) for file in files])
    probabilities = model.predict(images, config.batch_size)
    if model.classes and len(model.classes) != probabilities.shape[1]:
        raise Failure(
            f"{config.model} names {len(model.classes)} classes and answers {probabilities.shape[1]}: its "
            "manifest is of another model."
        )
    classes = model.classes or tuple(map(str, range(probabilities.shape[1])))

    names = [file.name for file in files]
    best = _called(probabilities, classes)
    for name, called, sure in list(zip(names, best["predicted"], best["confidence"]))[:PRINTED]:
        print(f"{name}: {called}, {sure:.1%}")
    if len(names) > PRINTED:
        print(f"and {len(names) - PRINTED} more, in predictions.csv")
    captions = [f"{name[-24:]}\n{called}, {sure:.1%}" for name, called, sure in zip(names, *best.values())]
    title = f"{config.images.name}, by {model.name}"
    answers.sheet(images, captions, folder / "figures" / "pictures.png", title)
    every = {f"p_{name}": probabilities[:, i].round(6) for i, name in enumerate(classes)}
    _write_predictions(folder, {"image": names, **best, **every})
    found = {
        **scoring.circumstances(),
        "images": len(names),
        "size": [height, width],
        "model": {"name": model.name, "kind": model.kind},
    }
    write_text(folder / RESULT, json.dumps(found, indent=2) + "\n")
    write_text(folder / "report.md", evaluation.pictures_page(title, found))


def _called(probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, list]:
    """The class that each image is given, by name, and its probability."""
    best = probabilities.argmax(axis=1)
    return {
        "predicted": [classes[i] for i in best],
        "confidence": probabilities.max(axis=1).round(6).tolist(),
    }


def _write_predictions(folder: Path, columns: dict[str, Any]) -> None:
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values()))


def _no_data() -> str:
    raise WrongValue("the model doesn't tell what it was trained on: say --dataset NAME, or --images FOLDER.")


if __name__ == "__main__":
    cli.run(Config, main)
