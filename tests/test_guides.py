"""docs/own-teacher.md, run as it stands: a foreign teacher, a folder of pictures, a shipped student."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import keras
import numpy as np
import pytest
from PIL import Image

from kapp import recipes
from kapp.data import shapes
from kapp.runs import Run

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "own-teacher.md"
CLASSES = 3
COUNTS = {"train": 480, "test": 90}


def drawn(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of three of the embedded set's shapes, 32x32."""
    images, labels = shapes.draw("shapes", 10 * COUNTS[part], seed=["train", "test"].index(part))
    kept = np.flatnonzero(labels < CLASSES)[: COUNTS[part]]
    return images[kept], labels[kept]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """What a user has: pictures/ and mine.keras, a classifier of 24x24 images from -1 to 1."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("guide")
    for part in COUNTS:
        for i, (image, label) in enumerate(zip(*drawn(part))):
            path = folder / "pictures" / part / shapes.CLASSES["shapes"][label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    names = sorted(shapes.CLASSES["shapes"][:CLASSES])
    images, labels = drawn("train")
    labels = np.array([names.index(shapes.CLASSES["shapes"][label]) for label in labels])
    seen = np.stack([np.asarray(Image.fromarray(image).resize((24, 24))) for image in images]) / 127.5 - 1
    teacher = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    teacher.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    teacher.fit(seen, labels, epochs=12, batch_size=24, verbose=0)
    teacher.save(folder / "mine.keras")
    return folder


def blocks() -> list[list[str]]:
    """The guide's commands, in its order, up to where it goes on to other ways."""
    text = GUIDE.read_text(encoding="utf-8").partition("## More ways")[0]
    found = re.findall(r"```python\n(.*?)```|^    python -m ([^\n]+)$", text, re.DOTALL | re.MULTILINE)
    return [["-c", code] if code else ["-m", *words.split()] for code, words in found]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it stands for the default backend")
def test_the_guide_leads_from_a_foreign_teacher_to_a_shipped_student(workplace):
    steps = blocks()
    assert len(steps) == 5
    for words in steps:
        done = subprocess.run(
            [sys.executable, *words], cwd=workplace, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}\n{done.stderr}"

    student = Run(workplace / "student")
    assert student.result["teachers"] == ["teacher"]
    assert (workplace / "student" / "export" / "saved_model" / "manifest.json").is_file()
    teacher, shipped = (
        json.loads((workplace / f"{name}-evaluation" / "evaluation.json").read_text())
        for name in ("teacher", "student")
    )
    assert teacher["model"]["accuracy"] > 0.5  # of three classes: resized and rescaled as it was trained
    assert shipped["model"]["accuracy"] == pytest.approx(student.result["test_accuracy"], abs=0.012)
    assert shipped["against"]["accuracy"] == teacher["model"]["accuracy"]
    assert shipped["comparison"]["agreement"] > 0.5


def test_the_readmes_table_has_every_command():
    table = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n\n- ")[0]
    )
    commands = {module.name for module in iter_modules(recipes.__path__)} - {"__main__", "settings"}
    assert set(re.findall(r"^\| `kapp (\w+) ", table, re.MULTILINE)) == commands


def test_no_page_links_to_what_is_not_there():
    """In a fresh checkout this also tells what was never committed."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "reports").rglob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page
