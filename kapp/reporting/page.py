"""What the pages over runs are made of."""

import os
import re
from pathlib import Path

import pandas as pd

from kapp.reporting import figures, tables
from kapp.reporting.tables import plain
from kapp.runs import Run


def page(*paragraphs: str) -> str:
    return "\n\n".join(paragraphs) + "\n"


def settings(run: Run) -> list[str]:
    config = {name: plain(value) for name, value in run.config.items()}
    noted = ("precision", "backend", "device", "commit")
    ran = {key: plain(run.result.get(key)) for key in noted}
    return [
        "## Settings",
        pairs_table({**config, **ran}),
        "[config.json](config.json) holds all of them; the same command with the same settings runs it "
        "again. [environment.json](environment.json) tells versions and data, "
        "[metrics.csv](metrics.csv) every epoch.",
    ]


def results(result: dict) -> str:
    return pairs_table(
        {
            "test accuracy (95% interval)": test_accuracy(result),
            "validation accuracy": tables.percent(result["val_accuracy"]) if selected(result) else "",
            "test loss (cross-entropy, nats)": f"{result['test_loss']:.3f}",
            "expected calibration error": f"{result['calibration_error']:.3f}",
            "training, images per second": f"{result['train_images_per_second']:,.0f}",
            "minutes in all": f"{result['seconds'] / 60:.1f}",
        }
    )


def selection(result: dict) -> str:
    if not selected(result):
        return (
            f"The network is that of the last epoch, {result['epochs']}: no image was held out to select by. "
            "The test images were watched on the way, as paper A does, and chose nothing."
        )
    return (
        f"The network is that of epoch {result['best_epoch']} of {result['epochs']}, the best on "
        "validation images; the test images were scored once, at the end."
    )


def selected(result: dict) -> bool:
    """Whether images were held out to select by."""
    return result["validation_images"] > 0


def test_accuracy(result: dict) -> str:
    return tables.interval(result["test_accuracy"], *result["test_interval"])


def words_of(run: Run) -> str:
    result = run.result
    if "phase" in result:
        return f"{result['model']} from {result['source']} to {result['dataset']}, {result['phase']}"
    if not result["teachers"]:
        return f"{result['model']} on labels"
    return f"{result['model']} from {' + '.join(result['teachers'])} ({result['objective']})"


def draw_phases(run: Run, phase1: Run, scratch: Run | None, path: Path) -> None:
    result = run.result
    parts = [("phase 1: head on frozen features", phase1), ("phase 2: the whole", run)]
    parts += [("from scratch", scratch)] if scratch else []
    title = f"{result['model']} from {result['source']} to {result['dataset']}"
    measured = [(words, each.metrics()) for words, each in parts]
    figures.phases(measured, path, title, selected(result))


def draw_paired(distilled: Run, labels: Run, quantity: str, path: Path) -> None:
    objective = distilled.result["objective"]
    titles = (f"from {' + '.join(distilled.result['teachers'])} ({objective})", "on labels (cross-entropy)")
    left, right = distilled.metrics(), labels.metrics()
    figures.paired_curves(left, right, quantity, path, titles, distilled.result["model"])


def pairs_table(pairs: dict[str, str]) -> str:
    """A two-column table of what is known."""
    known = [(name.replace("_", " "), value) for name, value in pairs.items() if value != ""]
    return tables.markdown(pd.DataFrame(known, columns=["", "value"]))


def image(words: str, link: str) -> str:
    return f"![{words}]({link})"


def link_to(run: Run, page_folder: Path) -> str:
    path = Path(os.path.relpath(run.folder, page_folder)).as_posix()
    return f"[{run.folder.name or path}]({path})"


def file_name(*words: str) -> str:
    return re.sub(r"[^\w.-]+", "_", "-".join(words)) + ".png"
