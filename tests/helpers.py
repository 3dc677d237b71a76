"""What tests of several packages share."""

import csv
import signal
import zipfile
from pathlib import Path

import numpy as np

from kapp.run_folder import Run

RUN_FILES = {
    ".lock",
    "checkpoints",
    "config.json",
    "confusion.csv",
    "environment.json",
    "figures",
    "metrics.csv",
    "model.keras",
    "predictions.npz",
    "report.md",
    "result.json",
}


def write_tiny_npz(path: Path) -> Path:
    """A data set of 200 + 50 images of 8x8 in three classes that differ in brightness."""
    random = np.random.default_rng(0)

    def split(count: int):
        labels = np.arange(count) % 3
        images = random.normal(60 + 60 * labels[:, None, None, None], 40, (count, 8, 8, 3))
        return images.clip(0, 255).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = split(200), split(50)
    np.savez(
        path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=["dark", "mid", "light"]
    )
    return path


def flip(path: Path) -> None:
    """Change a digit, or else the last bit, in the middle of the file."""
    data = bytearray(path.read_bytes() or b"0")
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    data[digits[-1] if digits else len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "other text": lambda path: path.write_text("[]"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "a folder": replace_by_folder,
    "removed": lambda path: path.unlink(),
}


def file_names(folder: Path) -> set[str]:
    """Names of the files and folders in `folder`."""
    return {path.name for path in folder.iterdir()}


def weight_bytes(run: Run) -> dict[str, bytes]:
    """The weight files inside `model.keras`."""
    return weight_bytes_in(run.model_file)


def weight_bytes_in(model_file: Path) -> dict[str, bytes]:
    """The weight files inside a .keras file."""
    with zipfile.ZipFile(model_file) as file:
        return {name: file.read(name) for name in file.namelist() if name.endswith(".h5")}


def untimed_metrics(run: Run) -> list[list[str]]:
    """The rows of `metrics.csv` without the columns that differ from one execution to the next."""
    with open(run.metrics_file) as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "images_per_second")
    return [[value for name, value in row.items() if name not in timed] for row in rows]


def crop_and_flip(image: np.ndarray, view: int, crop_padding: int, flip: bool) -> np.ndarray:
    """One view of one image in plain NumPy: the reference for `kapp.data.augmentation`."""
    views = [
        (flipped, dy, dx)
        for flipped in ((False, True) if flip else (False,))
        for dy in range(2 * crop_padding + 1)
        for dx in range(2 * crop_padding + 1)
    ]
    flipped, dy, dx = views[view]
    height, width, _ = image.shape
    padded = np.pad(image, ((crop_padding, crop_padding), (crop_padding, crop_padding), (0, 0)))
    crop = padded[dy : dy + height, dx : dx + width]
    return crop[:, ::-1] if flipped else crop


def accept_interrupts() -> None:
    """For `subprocess.Popen(preexec_fn=...)`: a job in the background inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
