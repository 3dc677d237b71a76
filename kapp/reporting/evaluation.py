"""The page and the tables of one evaluation: made from its evaluation.json and its counts alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapp.reporting import tables
from kapp.reporting.scores import wilson_interval
from kapp.reporting.tables import amount, interval, percent

KINDS = {
    "run": "run folder",
    "keras": ".keras file",
    "saved_model": "SavedModel",
    "onnx": "ONNX",
    "litert": "LiteRT",
}


FEW = 10  # images on which two models differ, below which a bootstrap says too little


def by_class(counts: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Of each class: how many images it has, how many of them are named correctly (with the 95% interval of
    that share), how many of those called so are (precision), and its commonest mistake. None is none at all.

    Args:
        counts: (classes, classes), one row a true class, one column a predicted one.
    """
    rows = []
    for i, name in enumerate(classes):
        images, called, right = int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])
        wrong = np.where(np.arange(len(classes)) == i, 0, counts[i])
        rows += [
            {
                "class": name,
                "images": images,
                "accuracy": right / images if images else None,
                "interval": list(wilson_interval(right, images)),
                "precision": right / called if called else None,
                "mistaken_for": classes[int(wrong.argmax())] if wrong.any() else None,
            }
        ]
    return rows


def page(evaluation: Mapping[str, Any], figures: Sequence[str], record: bool = False) -> str:
    """The report.md of an evaluation on labelled images; `figures` names those in figures/.

    Args:
        record: whether it is kept without the images and the single answers, to be shown to others.
    """
    model, against = evaluation["model"], evaluation.get("against")
    where = f"{evaluation['dataset']}, {evaluation['split']} images"
    compared = []
    if against:
        compared = ["## Against " + _told_apart(model, against)[1], _comparison(evaluation)]
    pictures = {
        "reliability": "How far its confidence can be trusted",
        "confusion": "Which classes are taken for which",
        "mistakes": "Its worst mistakes, the surest first",
    }
    drawn = [
        text
        for name, title in pictures.items()
        if name in figures
        for text in (f"## {title}", f"![{title}](figures/{name}.png)")
    ]
    return (
        "\n\n".join(
            [
                f"# {model['name']} on {where}",
                headline(evaluation),
                *_caveats(evaluation),
                "## The model" if not against else "## The models",
                _models([model, *([against] if against else [])]),
                "Times are medians after a warm-up, from uint8 images in memory to probabilities in memory; "
                f"images a second in batches of {model['batch_size']}.",
                *compared,
                "## Class by class",
                _by_class(evaluation["by_class"]),
                *drawn,
                "[evaluation.json](evaluation.json) holds all of these numbers"
                + ("." if record else ", [predictions.csv](predictions.csv) every answer."),
            ]
        )
        + "\n"
    )


def pictures_page(title: str, evaluation: Mapping[str, Any], record: bool = False) -> str:
    """The report.md of a folder of pictures without labels; `record` as for `page`."""
    height, width = evaluation["size"]
    shown = (
        ", which is how they are shown here. [predictions.csv](predictions.csv) holds every probability.\n\n"
        "![The pictures and their classes](figures/pictures.png)\n"
    )
    return (
        f"# {title}\n\n{evaluation['images']} pictures, each resized as a whole to {height}x{width} pixels"
        + (".\n" if record else shown)
    )


def headline(evaluation: Mapping[str, Any]) -> str:
    """The result in a sentence."""
    model = evaluation["model"]
    return (
        f"{model['name']} ({KINDS[model['kind']]}) names "
        f"{interval(model['accuracy'], *model['interval'])} of {evaluation['images']:,} images correctly "
        f"(95% interval); expected calibration error {model['calibration_error']:.3f}."
    )


def speed(evaluation: Mapping[str, Any]) -> str:
    """Speed and size in a sentence."""
    model = evaluation["model"]
    return (
        f"{model['latency_ms']:.2f} ms for one image, {model['images_per_second']:,.0f} images a second in "
        f"batches of {model['batch_size']}, {amount(model['bytes'])}B, on {model['device']}."
    )


def verdict(evaluation: Mapping[str, Any]) -> str:
    """What may be concluded from two models on the same images."""
    model, against, found = (evaluation[key] for key in ("model", "against", "comparison"))
    low, high = (100 * end for end in found["interval"])
    sure = "more than the luck of these images" if found["p_value"] < 0.05 else "they may be equally good"
    first, second = _told_apart(model, against)
    return (
        f"{first} is {100 * found['difference']:+.1f} points ({low:+.1f} to {high:+.1f}) from "
        f"{second} on the same images, p = {found['p_value']:.2g} by McNemar's test: {sure}. "
        f"They give the same class to {percent(found['agreement'])}."
    )


def _caveats(evaluation: Mapping[str, Any]) -> list[str]:
    notes = []
    if evaluation["split"] == "validation":
        notes += ["Networks are selected on validation images, so that they look better here than they are."]
    if evaluation.get("said") is not None:
        notes += [f"The run that trained it measured {percent(evaluation['said'])} on the same images."]
    if evaluation.get("other_data"):
        notes += ["These aren't the data that it was trained on: their checksum differs."]
    return [" ".join(notes)] if notes else []


def _models(models: Sequence[Mapping[str, Any]]) -> str:
    rows = {
        "model": _told_apart(*models),
        "kind": [KINDS[model["kind"]] for model in models],
        "accuracy (95% interval)": [interval(model["accuracy"], *model["interval"]) for model in models],
        "cross-entropy, nats": [f"{model['loss']:.3f}" for model in models],
        "expected calibration error": [f"{model['calibration_error']:.3f}" for model in models],
        "parameters": [_known(model["parameters"]) for model in models],
        "FLOPs an image": [_known(model["flops"]) for model in models],
        "on disk": [f"{amount(model['bytes'])}B" for model in models],
        "one image, ms": [f"{model['latency_ms']:.2f}" for model in models],
        "computed on": [model["device"] for model in models],
        "images a second": [f"{model['images_per_second']:,.0f}" for model in models],
    }
    columns = ["", "value"] if len(models) == 1 else ["", "the first", "the second"]
    return tables.markdown(pd.DataFrame([[name, *row] for name, row in rows.items()], columns=columns))


def _told_apart(*models: Mapping[str, Any]) -> list[str]:
    """A name for each, unlike the other's where anything tells them apart."""
    names = [model["name"] for model in models]
    for told in (lambda model: KINDS[model["kind"]], lambda model: model.get("label", "")):
        if len(set(names)) == len(models):
            break
        names = [f"{model['name']} ({told(model)})" for model in models]
    return names


def _comparison(evaluation: Mapping[str, Any]) -> str:
    found = evaluation["comparison"]
    decisive = found["only_first"] + found["only_second"]
    few = (
        f" Only {decisive} images tell the two apart: drawing them again can't show how few they are, so "
        "that the interval is too narrow. Go by the test."
    )
    return (
        f"{verdict(evaluation)}\n\n"
        f"Right alone: {found['only_first']:,} images by the first, {found['only_second']:,} by the second. "
        "The interval is a bootstrap's over the images, in pairs; the test is exact. Both count the luck of "
        "the images, not of the training: another seed may order the two otherwise."
        + (few if decisive < FEW else "")
    )


def _by_class(rows: Sequence[Mapping[str, Any]]) -> str:
    return tables.markdown(
        pd.DataFrame(
            {
                "class": [row["class"] for row in rows],
                "images": [row["images"] for row in rows],
                "named correctly (95% interval)": [
                    "" if row["accuracy"] is None else interval(row["accuracy"], *row["interval"])
                    for row in rows
                ],
                "right when named": [
                    "" if row["precision"] is None else percent(row["precision"]) for row in rows
                ],
                "most often taken for": [row["mistaken_for"] or "" for row in rows],
            }
        )
    )


def _known(count: float | None) -> str:
    return "" if count is None else amount(count)
