"""The real commands: what they leave, what they measure, what they refuse."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kapp import cli
from kapp.runs import Run
from kapp.serving import formats

pytest.importorskip("tensorflow", reason="exports go through TensorFlow, whatever backend trains")
FILES = {
    "saved_model": {"saved_model.pb", "fingerprint.pb", "variables/variables.index"}
    | {"variables/variables.data-00000-of-00001"},
    "onnx": {"model.onnx"},
    "litert": {"model.tflite"},
}
CLASSES = ["dark", "mid", "light"]
EVALUATION = {"evaluation.json", "report.md", "predictions.csv"}
FIGURES = {"figures/confusion.png", "figures/mistakes.png", "figures/reliability.png"}


def left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def python(folder: Path, *words: object) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_npz):
    """A run on the backend under test, exported in every format: the folder it lies in, and what was said."""
    folder = tmp_path_factory.mktemp("exported")
    small = "--model 8c-mp-16fc-3fc --epochs 2 --batch-size 20 --precision float32 --out run".split()
    python(folder, "-m", "kapp.recipes.train", *small, "--dataset", f"npz:{tiny_npz}")
    said = python(folder, "-m", "kapp.recipes.export", "--run", "run", "--format", *formats.FORMATS)
    return folder, said


@pytest.fixture(scope="module")
def evaluated(exported):
    """The SavedModel evaluated, on what the run was trained on, against the run itself."""
    folder, _ = exported
    said = python(
        folder, "-m", "kapp.recipes.evaluate", "--saved-model", "run/export/saved_model", "--against", "run"
    )
    return folder / "evaluations" / "run-saved_model-on-tiny", said


def test_an_export_leaves_exactly_these_files_and_vouches_for_them(exported):
    folder, done = exported
    run = Run(folder / "run")
    for format in formats.FORMATS:
        export = folder / "run" / "export" / format
        assert left(export) == FILES[format] | {"manifest.json", "README.md"}
        manifest = json.loads((export / "manifest.json").read_text())
        assert manifest["sha256"].keys() == left(export) - {"manifest.json"}
        assert manifest["classes"] == CLASSES
        assert manifest["input"] == {"name": "images", "shape": [None, 8, 8, 3], "dtype": "uint8"}
        assert manifest["output"] == {
            "probabilities": {"shape": [None, 3], "dtype": "float32"},
            "class_name": {"shape": [None], "dtype": "string"},
        }
        assert manifest["source"]["run"] == "run"
        assert manifest["source"]["backend"] == os.environ["KERAS_BACKEND"]
        for name in ("test_accuracy", "test_interval", "parameters", "flops", "dataset", "data_sha256"):
            assert manifest[name] == run.result[name]
        assert manifest["parity"]["images"] == 50
        assert manifest["parity"]["of"].startswith("test images of npz:")
        assert 0 <= manifest["parity"]["largest_difference"] <= manifest["parity"]["tolerance"] == 1e-4
        assert re.search(f"^{format}: run/export/{format}, at most ", done.stdout, re.MULTILINE)
    assert not list((folder / "run" / "export").glob(".*"))


def test_weights_are_written_once(exported):
    folder, _ = exported
    weights = 4 * Run(folder / "run").result["parameters"]
    variables = folder / "run" / "export" / "saved_model" / "variables" / "variables.data-00000-of-00001"
    assert weights <= variables.stat().st_size < 1.5 * weights


# Test images through each runtime, by nothing of kapp's: the answers, and how many were asked at once.
NAMED = {
    "saved_model": """
import tensorflow as tf
serve = tf.saved_model.load(".").signatures["serving_default"]
def ask(images):
    answer = serve(images=tf.constant(images))
    return answer["class_name"].numpy(), answer["probabilities"].numpy()""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
def ask(images):
    return session.run(["class_name", "probabilities"], {"images": images})""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter("model.tflite").get_signature_runner("serving_default")
def ask(images):
    answer = runner(images=images)
    return answer["class_name"], answer["probabilities"]""",
}
ASKED = """
import json, sys, numpy as np
images = np.load(sys.argv[1])["x_test"]
names, probabilities = zip(*(ask(part) for part in (images[:1], images[1:8], images[8:])))
names = [name.decode() if isinstance(name, bytes) else str(name) for part in names for name in part]
print(json.dumps([names, np.concatenate(probabilities).tolist()]))"""


@pytest.mark.parametrize("format", formats.FORMATS)
def test_an_export_says_the_probabilities_and_the_name_of_the_most_probable(exported, tiny_npz, format):
    folder, _ = exported
    done = python(folder / "run" / "export" / format, "-c", NAMED[format] + ASKED, tiny_npz)
    names, probabilities = json.loads(done.stdout.splitlines()[-1])
    assert len(set(names)) > 1
    assert names == [CLASSES[i] for i in np.argmax(probabilities, axis=1)]
    np.testing.assert_allclose(np.sum(probabilities, axis=1), np.ones(50), atol=1e-5)


@pytest.mark.parametrize("format", formats.FORMATS)
def test_the_model_cards_code_runs_as_it_stands(exported, format):
    folder, _ = exported
    export = folder / "run" / "export" / format
    card = (export / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert code.count("\n") == 5
    name, probability = python(export, "-c", code).stdout.split()
    assert name in CLASSES
    assert 1 / 3 < float(probability) <= 1
    assert "uint8 (n, 8, 8, 3)" in card
    assert "from labels, seed 0" in card


def test_an_evaluation_leaves_exactly_these_files_with_the_runs_own_accuracy(exported, evaluated):
    folder, _ = exported
    evaluation, done = evaluated
    assert left(evaluation) == EVALUATION | FIGURES
    found = json.loads((evaluation / "evaluation.json").read_text())
    run = Run(folder / "run")
    model = found["model"]
    assert model["accuracy"] == found["said"] == run.result["test_accuracy"]
    assert model["interval"] == pytest.approx(run.result["test_interval"])
    assert model["calibration_error"] == pytest.approx(run.result["calibration_error"], abs=1e-5)
    assert model["loss"] == pytest.approx(run.result["test_loss"], abs=1e-5)
    assert (model["parameters"], model["flops"]) == (run.result["parameters"], run.result["flops"])
    assert model["latency_ms"] > 0
    assert model["images_per_second"] > 0
    assert found["against"]["kind"] == "run"
    assert found["comparison"]["agreement"] == 1
    assert found["comparison"]["p_value"] == 1
    assert sum(row["images"] for row in found["by_class"]) == found["images"] == 50
    assert sum(row["images"] for row in found["calibration"]) == 50
    assert f"names {100 * model['accuracy']:.1f}%" in done.stdout

    rows = list(csv.DictReader((evaluation / "predictions.csv").open()))
    assert len(rows) == 50
    assert sum(row["true"] == row["predicted"] for row in rows) / 50 == model["accuracy"]
    counts = run.confusion()
    for true in counts.index:
        for called in counts.columns:
            pairs = sum((row["true"], row["predicted"]) == (true, called) for row in rows)
            assert pairs == counts.loc[true, called]


def test_evaluating_needs_nothing_of_training_nor_keras_for_what_is_exported(exported, tmp_path):
    folder, _ = exported
    program = (
        "import sys\n"
        "sys.modules['kapp.training'] = None\n"  # from now on, importing it raises
        "from kapp import cli\n"
        "from kapp.recipes.evaluate import Config, main\n"
        "main(cli.parse(Config, sys.argv[1:]))\n"
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    exports = folder / "run" / "export"
    for flags, imported in (
        (("--litert", exports / "litert" / "model.tflite", "--against", exports / "onnx"), "set()"),
        (
            ("--keras", folder / "run" / "model.keras", "--dataset", Run(folder / "run").result["dataset"]),
            "keras",
        ),
    ):
        done = python(tmp_path, "-c", program, *flags, "--out", flags[0][2:])
        assert left(tmp_path / flags[0][2:]) == EVALUATION | FIGURES
        assert imported in done.stdout.splitlines()[-1]
        assert done.stderr == ""
    kinds = [
        json.loads((tmp_path / name / "evaluation.json").read_text())["model"] for name in ("litert", "keras")
    ]
    assert kinds[0]["accuracy"] == kinds[1]["accuracy"] == Run(folder / "run").result["test_accuracy"]


def test_the_validation_split_is_that_of_training(exported, kapp, tmp_path):
    folder, _ = exported
    run = Run(folder / "run")
    done = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--split", "validation")
    assert done.returncode == 0, done.stderr
    found = json.loads(
        (tmp_path / "evaluations" / "run-onnx-on-tiny-validation" / "evaluation.json").read_text()
    )
    assert found["model"]["accuracy"] == pytest.approx(run.result["val_accuracy"], abs=1e-6)
    assert found["images"] == run.result["validation_images"] == 40
    assert found["said"] is None


def test_own_pictures_are_named(exported, kapp, tmp_path):
    import onnxruntime

    folder, _ = exported
    (tmp_path / "mine").mkdir()
    for name, grey in (("night.png", 20), ("snow.jpg", 235)):
        Image.new("RGB", (30, 20), (grey,) * 3).save(tmp_path / "mine" / name)
    done = kapp(
        "evaluate", "--onnx", folder / "run" / "export" / "onnx", "--images", "mine", "--out", "named"
    )
    assert done.returncode == 0, done.stderr
    assert left(tmp_path / "named") == EVALUATION | {"figures/pictures.png"}
    rows = list(csv.DictReader((tmp_path / "named" / "predictions.csv").open()))
    session = onnxruntime.InferenceSession(folder / "run" / "export" / "onnx" / "model.onnx")
    for row, name, grey in zip(rows, ("night.png", "snow.jpg"), (20, 235)):
        ((answer,),) = session.run(["probabilities"], {"images": np.full((1, 8, 8, 3), grey, np.uint8)})
        assert [float(row[f"p_{name}"]) for name in CLASSES] == pytest.approx(answer, abs=1e-5)
        assert (row["image"], row["predicted"]) == (name, CLASSES[answer.argmax()])
        assert f"{name}: {row['predicted']}, {float(row['confidence']):.1%}\n" in done.stdout
    (tmp_path / "mine" / "cut.png").write_bytes(b"\x89PNG\r\n")
    cut = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--images", "mine", "--out", "cut")
    assert (cut.returncode, cut.stderr.count("\n")) == (1, 1)
    assert "cannot read the picture mine/cut.png" in cut.stderr
    assert not (tmp_path / "cut").exists()


def test_a_file_that_kapp_did_not_train_is_exported_and_checked_on_noise(kapp, tmp_path):
    import keras
    from keras import layers

    inputs = keras.Input((6, 6, 1))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    keras.Model(inputs, layers.Dense(2, activation="softmax")(x)).save(tmp_path / "mine.keras")
    done = kapp("export", "--keras", "mine.keras", "--classes", "cat", "dog", "--format", "onnx")
    assert done.returncode == 0, done.stderr
    export = tmp_path / "exports" / "mine" / "onnx"
    manifest = json.loads((export / "manifest.json").read_text())
    assert manifest["classes"] == ["cat", "dog"]
    assert manifest["source"]["file"] == "mine.keras"
    assert manifest["parity"]["of"].startswith("noise")
    assert manifest["parity"]["images"] == 500
    assert "test_accuracy" not in manifest
    assert "Not known" in (export / "README.md").read_text()


def test_an_export_that_is_not_the_network_is_not_kept(exported, tmp_path):
    """Here its weights are spoilt on the way."""
    folder, _ = exported
    program = (
        "import sys\n"
        "from kapp import cli\n"
        "from kapp.recipes import export\n"
        "cli.start_keras('tensorflow')\n"
        "from kapp.serving import classifier\n"
        "sound = classifier.portable\n"
        "def spoilt(network):\n"
        "    copy = sound(network)\n"
        "    copy.set_weights([weight * 1.1 for weight in copy.get_weights()])\n"
        "    return copy\n"
        "classifier.portable = spoilt\n"
        "cli.run(export.Config, export.main, sys.argv[1:])\n"
    )
    words = ("--run", folder / "run", "--out", "spoilt")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(r"kapp: the saved_model export isn't the network: a probability .*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_loaded_only_when_its_files_are_what_was_exported(exported, kapp, tmp_path):
    folder, _ = exported
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run" / "export" / "saved_model", copy)
    data = copy / "variables" / "variables.data-00000-of-00001"
    held = bytearray(data.read_bytes())
    held[100] ^= 1
    data.write_bytes(held)
    refused = kapp("evaluate", "--saved-model", "copy")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "isn't what was exported" in refused.stderr
    assert "--trust" in refused.stderr
    second = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--against", "copy")
    assert second.returncode == 1
    (copy / "manifest.json").unlink()
    held[100] ^= 1
    data.write_bytes(held)
    nameless = kapp("evaluate", "--saved-model", "copy", "--dataset", "shapes")
    assert (nameless.returncode, nameless.stderr.count("\n")) == (2, 1)
    assert "copy has no manifest.json" in nameless.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]

    dataset = Run(folder / "run").result["dataset"]
    trusted = kapp("evaluate", "--saved-model", "copy", "--dataset", dataset, "--trust", "--out", "trusted")
    assert trusted.returncode == 0, trusted.stderr
    assert json.loads((tmp_path / "trusted" / "evaluation.json").read_text())["model"]["name"] == "copy"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("export", "export needs --run FOLDER or --keras FILE"),
        ("export --run run --keras a.keras", "one of them only"),
        ("export --run absent", "absent is not a run folder"),
        ("export --run run --classes a b", "--classes goes with --keras"),
        ("export --run run", "run/export/saved_model holds an earlier export"),
        ("export --run run --out run --overwrite", "holds files but no export: nothing there was touched"),
        ("export --run run --tolerance 0 --out new", "--tolerance is 0.0: it must be above 0"),
        (
            "export --keras old.h5 --classes a b",
            ".h5 files can run code when they are loaded, so kapp doesn't",
        ),
        ("export --keras run/model.keras --classes a", "--keras needs --classes: the names of its classes"),
        (
            "export --run run --out new --dataset cifar11",
            "unknown data set 'cifar11'. Did you mean 'cifar10'?",
        ),
        ("evaluate", "evaluate needs one model: one of --saved-model, --run, --keras, --onnx, --litert"),
        ("evaluate --run run --onnx run/export/onnx", "evaluate needs one model"),
        ("evaluate --onnx run/export/litert/model.tflite", "is of another kind: give it with --litert"),
        ("evaluate --run run --against gone.onnx", "there is no model at 'gone.onnx'"),
        ("evaluate --run run --against old.pkl", ".pkl files can run code"),
        ("evaluate --keras run/model.keras", "say --dataset NAME, or --images FOLDER"),
        ("evaluate --run run --dataset shaps", "unknown data set 'shaps'. Did you mean 'shapes'?"),
        ("evaluate --run run --images gone", "there is no folder 'gone' with pictures"),
        ("evaluate --run run --images run", "run holds no picture"),
        ("evaluate --run run --images run --dataset shapes", "--images goes without --dataset and --against"),
        ("evaluate --run run --batch-size 0", "--batch-size is 0: it must be at least 1"),
        ("evaluate --run run --out run", "run holds files but no evaluation"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(exported, monkeypatch, capsys, command, message):
    folder, _ = exported
    monkeypatch.chdir(folder)
    before = left(folder)
    name, *flags = command.split()
    recipe = import_module(f"kapp.recipes.{name}")
    with pytest.raises(SystemExit) as ended:
        cli.run(recipe.Config, recipe.main, flags)
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert said.startswith("kapp: ")
    assert message in said
    assert left(folder) == before


@pytest.mark.parametrize("command", ["export --run run", "evaluate --run run --out run", "evaluate --help"])
def test_an_answer_needs_neither_keras_nor_a_runtime(exported, command):
    program = (
        "import sys; from importlib import import_module; from kapp import cli\n"
        "recipe = import_module('kapp.recipes.' + sys.argv[1])\n"
        "try: cli.run(recipe.Config, recipe.main, sys.argv[2:])\n"
        "finally: assert not {'keras', 'tensorflow', 'onnxruntime', 'matplotlib'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", program, *command.split()]
    done = subprocess.run(words, cwd=exported[0], capture_output=True, text=True)
    assert done.returncode == (0 if "--help" in command else 2), done.stderr
    assert "AssertionError" not in done.stderr


def test_a_model_of_other_classes_is_refused(exported, kapp, tmp_path):
    folder, _ = exported
    with np.load(Run(folder / "run").result["dataset"].partition(":")[2]) as held:
        np.savez(tmp_path / "turned.npz", **{**held, "classes": ["light", "mid", "dark"]})
    done = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--dataset", "npz:turned.npz")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "knows the classes dark, mid, light; npz:turned.npz has light, mid, dark" in done.stderr
    assert not any((tmp_path / "evaluations").iterdir())
