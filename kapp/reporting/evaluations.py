"""Many evaluations become one page: which format, or which network, is how good, how large and how fast."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kapp.errors import Failure, WrongValue
from kapp.files import make_folder, replacing, write_text
from kapp.reporting import tables
from kapp.reporting.evaluation import KINDS, page, pictures_page, verdict
from kapp.reporting.tables import amount, interval

RESULT = "evaluation.json"


def read(folder: Path) -> dict[str, Any]:
    """What the evaluation in `folder` found.

    Raises:
        WrongValue: it isn't an evaluation's.
        Failure: the file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        raise WrongValue(
            f"{folder} is not an evaluation: it holds no {RESULT}. Give a folder that evaluate left."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} is damaged ({error}). Evaluate again with --overwrite.") from error


def summary_page(folders: Iterable[Path], out: Path, title: str = "", note: str = "") -> str:
    """Write `out`/README.md over the evaluations in `folders`, with rows.csv and a record of each; return it.

    A record holds the numbers and their figures, not the images or the answers to each: those may not be the
    author's to show.

    Raises:
        WrongValue: two of them have one name, or one is no evaluation.
        Failure: a file is damaged, or `out` can't be written.
    """
    folders = [folder.resolve() for folder in folders]
    if len({folder.name for folder in folders}) < len(folders):
        raise WrongValue("two evaluations have one name: rename the folder of one of them.")
    found = {folder.name: read(folder) for folder in folders}
    make_folder(out)
    for folder in folders:
        copy = out / "evaluations" / folder.name
        if copy.resolve() != folder:
            _copy_record(folder, copy, found[folder.name])
    scored = {name: each for name, each in found.items() if "accuracy" in each["model"]}
    frame = rows(scored)
    with replacing(out / "rows.csv") as partial:
        frame.to_csv(partial, index=False)
    compared = [
        f"- {verdict(each)} ([page]({_page(name)}))" for name, each in scored.items() if "comparison" in each
    ]
    pictures = [
        f"- {each['images']} pictures by {each['model']['name']} ({KINDS[each['model']['kind']]}): "
        f"[page]({_page(name)})"
        for name, each in found.items()
        if name not in scored
    ]
    parts = [
        f"# {title or 'Evaluations'}",
        *([note] if note else []),
        *([_table(frame)] if scored else []),
        "Intervals are Wilson's, over the images. The difference is the largest of a probability from the "
        "network's own, measured when it was exported. Times are medians after a warm-up, from uint8 "
        "images in memory to probabilities in memory.",
        *(["## Compared on the same images", "\n".join(compared)] if compared else []),
        *(["## Pictures without labels", "\n".join(pictures)] if pictures else []),
        "Every line is a row of [rows.csv](rows.csv), and each evaluation a folder in "
        "[evaluations](evaluations). From those, `kapp report --evaluations` makes this page again.",
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(out / "README.md", text)
    return text


def _copy_record(folder: Path, copy: Path, found: Mapping[str, Any]) -> None:
    drawn = [name for name in ("reliability", "confusion") if (folder / "figures" / f"{name}.png").is_file()]
    make_folder(copy / "figures" if drawn else copy)
    for name in (RESULT, *(f"figures/{name}.png" for name in drawn)):
        shutil.copyfile(folder / name, copy / name)
    if "accuracy" in found["model"]:
        text = page(found, drawn, record=True)
    else:
        text = pictures_page(f"Pictures, by {found['model']['name']}", found, record=True)
    write_text(copy / "report.md", text)


def rows(found: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per evaluated model, a second one of a comparison among them; what isn't known is NaN."""
    return pd.DataFrame(
        [
            _row(name, each, model)
            for name, each in found.items()
            for model in (each["model"], each.get("against"))
            if model
        ]
    )


def _row(name: str, found: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    parity = model.get("parity") or {}
    low, high = model["interval"]
    return {
        "evaluation": name,
        "model": model["name"],
        "kind": model["kind"],
        "dataset": found["dataset"],
        "split": found["split"],
        "images": found["images"],
        "accuracy": model["accuracy"],
        "low": low,
        "high": high,
        "loss": model["loss"],
        "calibration_error": model["calibration_error"],
        "largest_difference": parity.get("largest_difference"),
        "compared_on": parity.get("images"),
        "parameters": model["parameters"],
        "flops": model["flops"],
        "bytes": model["bytes"],
        "latency_ms": model["latency_ms"],
        "images_per_second": model["images_per_second"],
        "batch_size": model["batch_size"],
        "device": model["device"],
        "commit": found["commit"],
    }


def _table(frame: pd.DataFrame) -> str:
    shown: Sequence[dict[str, str]] = [
        {
            "model": f"[{row['model']}]({_page(row['evaluation'])})",
            "as": KINDS[row["kind"]],
            "on": f"{row['dataset']}, {row['images']:,} {row['split']} images",
            "accuracy (95% interval)": interval(row["accuracy"], row["low"], row["high"]),
            "difference": "" if pd.isna(row["largest_difference"]) else f"{row['largest_difference']:.1e}",
            "on disk": f"{amount(row['bytes'])}B",
            "one image, ms": f"{row['latency_ms']:.2f}",
            "images a second": f"{row['images_per_second']:,.0f}, in batches of {row['batch_size']}",
        }
        for _, row in frame.iterrows()
    ]
    return tables.markdown(pd.DataFrame(shown))


def _page(name: str) -> str:
    return f"evaluations/{name}/report.md"
