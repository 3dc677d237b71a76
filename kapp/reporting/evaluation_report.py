"""Reports of evaluations: report.md of one, and a page over many."""

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kapp import records
from kapp.errors import ConfigError
from kapp.fileio import atomic_file, is_file, make_folder, write_text
from kapp.records import ClassScores, Comparison, Evaluation, ModelScores, UnlabeledEvaluation
from kapp.reporting import differences
from kapp.reporting.markdown import (
    Block,
    BulletList,
    Figure,
    Heading,
    Markdown,
    Paragraph,
    Table,
    escape,
    link,
    to_markdown,
)
from kapp.reporting.tables import format_si, interval, percent

EVALUATION_FILE, PREDICTIONS = "evaluation.json", "predictions.csv"
FORMATS = {
    "run": "run folder",
    "keras": ".keras file",
    "saved_model": "SavedModel",
    "onnx": "ONNX",
    "litert": "LiteRT",
}
FIGURES = {
    "reliability": "Reliability diagram",
    "confusion": "Confusion matrix",
    "mistakes": "Mistakes with the highest confidence",
}
MIN_DISCORDANT = 10  # a bootstrap over fewer images gives too narrow an interval
EXPORT_NOTE = (
    "The export difference is the largest difference of a probability from the network's own, measured when "
    "it was exported."
)
TIMES_NOTE = "Times are medians after a warm-up, from uint8 images in memory to probabilities in memory."
NOT_IN_SUMMARY = ("cross-entropy, nats", "expected calibration error", "parameters", "FLOPs per image")


def read(folder: Path) -> Evaluation | UnlabeledEvaluation:
    """Returns the evaluation in `folder`.

    Raises:
        ConfigError: `folder` is not an evaluation.
        KappError: the file is damaged.
    """
    path = folder / EVALUATION_FILE
    if not is_file(path):
        raise ConfigError(
            f"{folder} is not an evaluation: it has no {EVALUATION_FILE}. Give a folder that evaluate wrote."
        )
    return records.read_evaluation(path, "Evaluate again with --overwrite.")


def write(evaluation: Evaluation | UnlabeledEvaluation, folder: Path) -> None:
    """Writes report.md in `folder`, with links to those figures and predictions that are there."""
    blocks = (
        _labeled(evaluation, folder) if isinstance(evaluation, Evaluation) else _unlabeled(evaluation, folder)
    )
    write_text(folder / "report.md", to_markdown(blocks))


def write_summary(folders: Iterable[Path], out: Path, title: str = "", note: str = "") -> None:
    """Writes README.md over evaluations, with rows.csv and copies of their numbers and figures.

    Images and single predictions aren't copied, because they may not be the author's to publish.

    Args:
        folders: of evaluations, with different names.
        out: the folder to write to.
        title: the page's title; "" is "Evaluations".
        note: a paragraph below the title, in the author's words.

    Raises:
        ConfigError: two folders have the same name, or one is not an evaluation.
        KappError: a file is damaged, or `out` can't be written.
    """
    folders = [folder.resolve() for folder in folders]
    if len({folder.name for folder in folders}) < len(folders):
        raise ConfigError("two evaluations have the same name: rename the folder of one of them.")
    evaluations = {folder.name: read(folder) for folder in folders}
    make_folder(out)
    for folder in folders:
        _copy(evaluations[folder.name], folder, out / "evaluations" / folder.name)
    labeled = {name: each for name, each in evaluations.items() if isinstance(each, Evaluation)}
    with atomic_file(out / "rows.csv") as partial:
        rows(labeled).to_csv(partial, index=False)
    comparisons = [
        f"{escape(verdict(each))} ({_link(name, 'report')})"
        for name, each in labeled.items()
        if each.comparison
    ]
    unlabeled = [
        f"{each.images} images classified by {escape(each.model)} ({FORMATS[each.format]}): "
        f"{_link(name, 'report')}"
        for name, each in evaluations.items()
        if isinstance(each, UnlabeledEvaluation)
    ]
    blocks: list[Block] = [Heading(title or "Evaluations", 1)]
    if note:
        blocks += [Paragraph(note)]
    blocks += [
        Table([_line(name, each, model) for name, each in labeled.items() for model in _models(each)]),
        Paragraph(f"Intervals are Wilson's, over the images. {EXPORT_NOTE} {TIMES_NOTE}"),
    ]
    if comparisons:
        blocks += [Heading("Comparisons on the same images"), BulletList(comparisons)]
    if unlabeled:
        blocks += [Heading("Images without labels"), BulletList(unlabeled)]
    blocks += [
        Paragraph(
            "Every line is a row of [rows.csv](rows.csv), and each evaluation a folder in "
            "[evaluations](evaluations). `kapp report --evaluations` makes this page again from those."
        )
    ]
    write_text(out / "README.md", to_markdown(blocks))


def rows(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Returns one row per evaluated model, two for a comparison; unknown values are NaN."""
    lines = []
    for name, evaluation in evaluations.items():
        for model in _models(evaluation):
            scores = dataclasses.asdict(model)
            scores["low"], scores["high"] = scores.pop("interval")
            parity = scores.pop("parity") or {}
            images = {"dataset": evaluation.dataset, "split": evaluation.split, "images": evaluation.images}
            scores |= {f"parity_{key}": parity.get(key) for key in ("images", "max_difference")}
            lines += [{"evaluation": name, **images, **scores, "commit": evaluation.software.commit}]
    return pd.DataFrame(lines)


def headline(evaluation: Evaluation) -> str:
    """Returns the accuracy and the calibration of the first model, in a sentence."""
    model = evaluation.model
    return (
        f"{model.name} ({FORMATS[model.format]}) classifies {interval(model.accuracy, *model.interval)} of "
        f"{evaluation.images:,} images correctly (95% interval); expected calibration error "
        f"{model.calibration_error:.3f}."
    )


def speed(evaluation: Evaluation) -> str:
    """Returns latency, throughput and size of the first model, in a sentence."""
    model = evaluation.model
    return (
        f"{model.latency_ms:.2f} ms for one image, {model.images_per_second:,.0f} images per second in "
        f"batches of {model.batch_size}, {format_si(model.size_bytes)}B, on {model.device}."
    )


def verdict(evaluation: Evaluation) -> str:
    """Returns what may be concluded from the two models of a comparison, in sentences."""
    assert evaluation.comparison
    return differences.describe(evaluation.comparison, *_names(evaluation))


def _labeled(evaluation: Evaluation, folder: Path) -> list[Block]:
    models, names = _models(evaluation), _names(evaluation)
    blocks: list[Block] = [
        Heading(f"{evaluation.model.name} on {evaluation.dataset}, {evaluation.split} images", 1),
        Paragraph(escape(headline(evaluation))),
        *map(Paragraph, filter(None, [_cautions(evaluation)])),
        Heading("Scores"),
        _scores(models, names),
        Paragraph(f"{EXPORT_NOTE} {TIMES_NOTE}" if any(model.parity for model in models) else TIMES_NOTE),
    ]
    if evaluation.comparison:
        blocks += [Heading(f"Compared with {names[1]}"), Paragraph(escape(verdict(evaluation)))]
        blocks += [Paragraph(_limits(evaluation.comparison))]
    blocks += [Heading("Classes"), Table([_class_line(each) for each in evaluation.by_class])]
    for name, title in FIGURES.items():
        if is_file(folder / "figures" / f"{name}.png"):
            blocks += [Heading(title), Figure(f"figures/{name}.png", title)]
    files = "[evaluation.json](evaluation.json) contains all of these numbers"
    if is_file(folder / PREDICTIONS):
        files += f", [{PREDICTIONS}]({PREDICTIONS}) every prediction"
    return [*blocks, Paragraph(f"{files}.")]


def _unlabeled(evaluation: UnlabeledEvaluation, folder: Path) -> list[Block]:
    height, width = evaluation.image_size
    blocks: list[Block] = [
        Heading(f"Images classified by {evaluation.model}", 1),
        Paragraph(f"{evaluation.images} images, each resized to {height}x{width} pixels without cropping."),
    ]
    if is_file(folder / PREDICTIONS):
        blocks += [Paragraph(f"[{PREDICTIONS}]({PREDICTIONS}) contains every probability.")]
    if is_file(folder / "figures" / "images.png"):
        blocks += [Figure("figures/images.png", "The images and their predicted classes")]
    return blocks


def _copy(evaluation: Evaluation | UnlabeledEvaluation, folder: Path, copy: Path) -> None:
    if copy.resolve() == folder:
        return
    for name in (EVALUATION_FILE, "figures/reliability.png", "figures/confusion.png"):
        if is_file(folder / name):
            make_folder((copy / name).parent)
            shutil.copyfile(folder / name, copy / name)
    write(evaluation, copy)


def _cautions(evaluation: Evaluation) -> str:
    notes = []
    if evaluation.split == "validation":
        notes += ["Networks are selected on validation images, so the accuracy here is too high."]
    if evaluation.reported_accuracy is not None:
        notes += [f"The model's own run measured {percent(evaluation.reported_accuracy)} on the same images."]
    if not evaluation.same_data:
        notes += ["The model was trained on other data: the checksum differs."]
    return " ".join(notes)


def _scores(models: Sequence[ModelScores], names: Sequence[str]) -> Table:
    titles = ["value"] if len(models) == 1 else ["first", "second"]
    columns = [{"model": name, **_cells(model), "device": model.device} for name, model in zip(names, models)]
    return Table(
        [
            {"": key, **{title: each[key] for title, each in zip(titles, columns)}}
            for key in columns[0]
            if any(each[key] for each in columns)
        ]
    )


def _cells(model: ModelScores) -> dict[str, str]:
    """The numbers of one model as text."""
    return {
        "format": FORMATS[model.format],
        "accuracy (95% interval)": interval(model.accuracy, *model.interval),
        "cross-entropy, nats": f"{model.loss:.3f}",
        "expected calibration error": f"{model.calibration_error:.3f}",
        "export difference": f"{model.parity.max_difference:.1e}" if model.parity else "",
        "parameters": "" if model.parameters is None else format_si(model.parameters),
        "FLOPs per image": "" if model.flops is None else format_si(model.flops),
        "size on disk": f"{format_si(model.size_bytes)}B",
        "latency of one image, ms": f"{model.latency_ms:.2f}",
        "images per second": f"{model.images_per_second:,.0f}, in batches of {model.batch_size}",
    }


def _limits(comparison: Comparison) -> str:
    few = " With so few such images the interval is too narrow: rely on the test."
    return (
        f"Only the first model is correct for {comparison.only_first:,} images, only the second for "
        f"{comparison.only_second:,}. The interval is a bootstrap over the images, paired by image. "
        f"{differences.ONE_SEED}"
    ) + (few if comparison.only_first + comparison.only_second < MIN_DISCORDANT else "")


def _class_line(scores: ClassScores) -> dict[str, str | int]:
    return {
        "class": scores.name,
        "images": scores.images,
        "recall (95% interval)": "" if scores.recall is None else interval(scores.recall, *scores.interval),
        "precision": "" if scores.precision is None else percent(scores.precision),
        "most often confused with": scores.most_confused_with or "",
    }


def _models(evaluation: Evaluation) -> list[ModelScores]:
    return [model for model in (evaluation.model, evaluation.compared_with) if model]


def _names(evaluation: Evaluation) -> list[str]:
    """A name for each model; their formats or labels are added where the names are equal."""
    models = _models(evaluation)
    formats = [f"{model.name} ({FORMATS[model.format]})" for model in models]
    labels = [f"{model.name} ({model.label})" for model in models]
    choices = ([model.name for model in models], formats, labels)
    return next((names for names in choices if len({*names}) == len(models)), labels)


def _line(name: str, evaluation: Evaluation, model: ModelScores) -> dict[str, str | int]:
    cells = {key: cell for key, cell in _cells(model).items() if key not in NOT_IN_SUMMARY}
    images = f"{evaluation.dataset}, {evaluation.images:,} {evaluation.split} images"
    return {"model": Markdown(_link(name, model.name)), "images": images, **cells}


def _link(name: str, text: str) -> str:
    return link(text, f"evaluations/{name}/report.md")
