"""The pages: docs/own-teacher.md as it is written; the commands, flags, modules and links of all pages."""

import re
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import keras
import numpy as np
import pytest
from PIL import Image

from kapp import recipes, records
from kapp.data.sources import shapes
from kapp.run_folder import Run

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT, ROOT / "kapp", ROOT / "kapp" / "layers")  # of which pages name modules
FLAG = re.compile(r"--[a-z][a-z-]+")
CLASSES = 3
COUNTS = {"train": 480, "test": 90, "validation": 90}


def draw(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of three of the embedded set's shapes, 32x32, and their labels."""
    images, labels = shapes.draw("shapes", 10 * COUNTS[part], seed=list(COUNTS).index(part))
    selected = np.flatnonzero(labels < CLASSES)[: COUNTS[part]]
    return images[selected], labels[selected]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """The user's files: images/, and mine.keras, a classifier of 24x24 images from -1 to 1, trained on
    images/train alone."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("guide")
    for part in COUNTS:
        for i, (image, label) in enumerate(zip(*draw(part))):
            path = folder / "images" / part / shapes.CLASSES["shapes"][label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    names = sorted(shapes.CLASSES["shapes"][:CLASSES])
    images, labels = draw("train")
    labels = np.array([names.index(shapes.CLASSES["shapes"][label]) for label in labels])
    inputs = np.stack([np.asarray(Image.fromarray(image).resize((24, 24))) for image in images]) / 127.5 - 1
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
    teacher.fit(inputs, labels, epochs=12, batch_size=24, verbose=0)
    teacher.save(folder / "mine.keras")
    return folder


def steps() -> list[list[str]]:
    """The Python arguments of the page's code blocks, up to its further settings."""
    text = (ROOT / "docs" / "own-teacher.md").read_text(encoding="utf-8").partition("## More settings")[0]
    blocks = re.findall(r"```python\n(.*?)```|^    python -m ([^\n]+)$", text, re.DOTALL | re.MULTILINE)
    return [["-c", code] if code else ["-m", *command.split()] for code, command in blocks]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the page assumes the default backend")
def test_own_teacher_page(workplace):
    assert len(steps()) == 5
    for arguments in steps():
        done = subprocess.run([sys.executable, *arguments], cwd=workplace, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}\n{done.stderr}"

    code = (ROOT / "docs" / "own-teacher.md").read_text(encoding="utf-8").partition("## In Python")[2]
    code = "\n".join(line[4:] for line in code.partition("## ")[0].splitlines() if line.startswith("    "))
    batches = (
        "import numpy, tensorflow\n"
        f"images, labels = numpy.ones((4, 16, 16, 3)), numpy.arange(4) % {CLASSES}\n"
        "batches = tensorflow.data.Dataset.from_tensors((images, labels))\n"
    )
    code = batches + code.replace("classes=10", f"classes={CLASSES}")
    done = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (workplace / "student.keras").is_file()

    student = Run(workplace / "student").result
    assert student.teachers == ("teacher",)
    assert (student.train_images, student.validation_images, student.test_images) == tuple(
        COUNTS[part] for part in ("train", "validation", "test")
    )
    assert student.validation_overlap == (None,)
    assert (workplace / "student" / "export" / "saved_model" / "manifest.json").is_file()
    teacher, export = (
        records.read(records.Evaluation, workplace / f"{name}-evaluation" / "evaluation.json", "")
        for name in ("teacher", "student")
    )
    assert teacher.model.accuracy > 0.5  # of three classes: it gets images of its own size and scale
    assert export.model.accuracy == pytest.approx(student.test_accuracy, abs=0.012)
    assert export.compared_with.accuracy == teacher.model.accuracy
    assert export.comparison.agreement > 0.5


def commands() -> set[str]:
    """The names of all recipes."""
    return {module.name for module in iter_modules(recipes.__path__)} - {"__main__", "settings"}


def test_readme_lists_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `kapp (\w+) ", text, re.MULTILINE)) == commands()


def test_pages_name_only_existing_flags():
    flags = {"--help"}
    recipes = ("report", "export", "evaluate", "reproduce", "sweep train", "sweep distill", "sweep transfer")
    commands = [f"kapp.recipes.{recipe}" for recipe in recipes] + ["dask scheduler", "dask worker"]
    for command in commands:
        words = [sys.executable, "-m", *f"{command} --help".split()]
        flags |= set(FLAG.findall(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert set(FLAG.findall(page.read_text(encoding="utf-8"))) <= flags, page


def test_pages_name_only_existing_modules():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        modules = re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))
        assert [each for each in modules if not any((at / each).exists() for at in FOLDERS)] == [], page


def test_pages_link_only_to_existing_files():
    """In a fresh clone this also fails for files that were never committed."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "reports").rglob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page
