"""The export and evaluate commands: their files, their numbers and their refusals."""

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

from kapp import cli, records
from kapp.export import formats
from kapp.export import manifest as manifest_file
from kapp.recipes import evaluate
from kapp.records import Evaluation, TensorSpec, UnlabeledEvaluation
from kapp.run_folder import Run
from tests.export.helpers import predictor, run_summary

pytest.importorskip("tensorflow", reason="exports need TensorFlow, whatever backend trains")
FILES = {
    "saved_model": {"saved_model.pb", "fingerprint.pb", "variables/variables.index"}
    | {"variables/variables.data-00000-of-00001"},
    "onnx": {"model.onnx"},
    "litert": {"model.tflite"},
}
CLASSES = ("dark", "mid", "light")
EVALUATION_FILES = {"evaluation.json", "report.md", "predictions.csv"}
FIGURES = {"figures/confusion.png", "figures/mistakes.png", "figures/reliability.png"}


def all_files(folder: Path) -> set[str]:
    """The paths of all files below `folder`, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_evaluation(folder: Path) -> Evaluation | UnlabeledEvaluation:
    return records.read_evaluation(folder / "evaluation.json", "")


def python(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run Python in `folder`, successfully."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_npz):
    """A run on the backend under test, exported in every format: the folder around it, and the output."""
    folder = tmp_path_factory.mktemp("exported")
    small = "--model 8c-mp-16fc-3fc --epochs 2 --batch-size 20 --precision float32 --out run".split()
    python(folder, "-m", "kapp.recipes.train", *small, "--dataset", f"npz:{tiny_npz}")
    done = python(folder, "-m", "kapp.recipes.export", "--run", "run", "--format", *formats.FORMATS)
    return folder, done.stdout


@pytest.fixture(scope="module")
def evaluated(exported):
    """The SavedModel evaluated and compared with the run: the folder of the evaluation, and the output."""
    folder, _ = exported
    command = "-m kapp.recipes.evaluate --saved-model run/export/saved_model --compare-with run".split()
    return folder / "evaluations" / "run-saved_model-on-tiny", python(folder, *command).stdout


@pytest.mark.parametrize("format", formats.FORMATS)
def test_an_export_leaves_exactly_these_files_and_lists_them(exported, format):
    folder, output = exported
    run = Run(folder / "run")
    export = folder / "run" / "export" / format
    assert all_files(export) == FILES[format] | {"manifest.json", "README.md"}
    manifest = manifest_file.read(export)
    assert manifest.sha256.keys() == all_files(export) - {"manifest.json"}
    assert (manifest.format, manifest.classes) == (format, CLASSES)
    assert manifest.inputs == {"images": TensorSpec((None, 8, 8, 3), "uint8")}
    assert manifest.outputs == {
        "probabilities": TensorSpec((None, 3), "float32"),
        "class_name": TensorSpec((None,), "string"),
    }
    assert (manifest.parameters, manifest.flops) == (run.result.parameters, run.result.flops)
    assert (manifest.run.name, manifest.run.backend) == ("run", os.environ["KERAS_BACKEND"])
    assert manifest.run.data_sha256 == run.config.data_sha256
    for name in ("dataset", "test_accuracy", "test_interval", "validation_images", "commit"):
        assert getattr(manifest.run, name) == getattr(run.result, name)
    assert manifest.parity.images == 50
    assert manifest.parity.compared_on.startswith("test images of npz:")
    assert 0 <= manifest.parity.max_difference <= manifest.parity.tolerance == 1e-4
    assert re.search(
        f"^{format}: run/export/{format}, probabilities differ .* at most ", output, re.MULTILINE
    )
    assert not list((folder / "run" / "export").glob(".*"))


def test_weights_are_written_once(exported):
    folder, _ = exported
    weights = 4 * Run(folder / "run").result.parameters
    variables = folder / "run" / "export" / "saved_model" / "variables" / "variables.data-00000-of-00001"
    assert weights <= variables.stat().st_size < 1.5 * weights


# Predicts with each runtime alone, without kapp.
PREDICT = {
    "saved_model": """
import tensorflow as tf
serve = tf.saved_model.load(".").signatures["serving_default"]
def predict(images):
    outputs = serve(images=tf.constant(images))
    return outputs["class_name"].numpy(), outputs["probabilities"].numpy()""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
def predict(images):
    return session.run(["class_name", "probabilities"], {"images": images})""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter("model.tflite").get_signature_runner("serving_default")
def predict(images):
    outputs = runner(images=images)
    return outputs["class_name"], outputs["probabilities"]""",
}
PRINT_PREDICTIONS = """
import json, sys, numpy as np
images = np.load(sys.argv[1])["x_test"]
names, probabilities = zip(*(predict(part) for part in (images[:1], images[1:8], images[8:])))
names = [name.decode() if isinstance(name, bytes) else str(name) for part in names for name in part]
print(json.dumps([names, np.concatenate(probabilities).tolist()]))"""


@pytest.mark.parametrize("format", formats.FORMATS)
def test_an_export_outputs_probabilities_and_the_name_of_the_most_probable_class(exported, tiny_npz, format):
    folder, _ = exported
    done = python(folder / "run" / "export" / format, "-c", PREDICT[format] + PRINT_PREDICTIONS, tiny_npz)
    names, probabilities = json.loads(done.stdout.splitlines()[-1])
    assert len(set(names)) > 1
    assert names == [CLASSES[i] for i in np.argmax(probabilities, axis=1)]
    np.testing.assert_allclose(np.sum(probabilities, axis=1), np.ones(50), atol=1e-5)


def test_probabilities_come_before_class_names_where_outputs_have_an_order(exported):
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    exports = exported[0] / "run" / "export"
    session = onnxruntime.InferenceSession(exports / "onnx" / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["probabilities", "class_name"]
    interpreter = Interpreter(str(exports / "litert" / "model.tflite"))
    outputs = interpreter.get_output_details()  # without their names
    assert [output["dtype"] for output in outputs] == [np.float32, np.bytes_]
    assert outputs[0]["shape_signature"].tolist() == [-1, 3]


@pytest.mark.parametrize("format", formats.FORMATS)
def test_the_code_of_the_model_card_runs_unchanged(exported, format):
    folder, _ = exported
    export = folder / "run" / "export" / format
    card = (export / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert code.count("\n") == 5
    name, probability = python(export, "-c", code).stdout.split()
    assert name in CLASSES
    assert 1 / 3 < float(probability) <= 1
    assert "uint8 (n, 8, 8, 3)" in card
    assert "from labels, with seed 0" in card


def test_an_evaluation_leaves_exactly_these_files_with_the_accuracy_of_the_run(exported, evaluated):
    run = Run(exported[0] / "run")
    folder, output = evaluated
    assert all_files(folder) == EVALUATION_FILES | FIGURES
    evaluation = read_evaluation(folder)
    model, result = evaluation.model, run.result
    assert model.accuracy == evaluation.reported_accuracy == result.test_accuracy
    assert model.interval == pytest.approx(result.test_interval)
    assert model.calibration_error == pytest.approx(result.calibration_error, abs=1e-5)
    assert model.loss == pytest.approx(result.test_loss, abs=1e-5)
    assert (model.parameters, model.flops) == (result.parameters, result.flops)
    assert model.latency_ms > 0
    assert model.images_per_second > 0
    assert evaluation.compared_with.format == "run"
    assert (evaluation.comparison.agreement, evaluation.comparison.p_value) == (1, 1)
    assert sum(row.images for row in evaluation.by_class) == evaluation.images == 50
    assert sum(row.images for row in evaluation.calibration) == 50
    assert evaluation.same_data
    assert f"classifies {100 * model.accuracy:.1f}%" in output


def test_predictions_csv_has_a_row_per_image(exported, evaluated):
    run = Run(exported[0] / "run")
    rows = list(csv.DictReader((evaluated[0] / "predictions.csv").open()))
    assert len(rows) == 50
    assert rows[0].keys() == {"image", "true"} | {
        f"{column}{model}" for column in ("predicted", "confidence") for model in ("", "_second")
    }
    counts = run.confusion()
    for true in counts.index:
        for predicted in counts.columns:
            pairs = sum((row["true"], row["predicted"]) == (true, predicted) for row in rows)
            assert pairs == counts.loc[true, predicted]


def test_evaluating_imports_no_training_and_for_exports_no_keras(exported, tmp_path):
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
        (("--litert", exports / "litert" / "model.tflite", "--compare-with", exports / "onnx"), "set()"),
        (
            ("--keras", folder / "run" / "model.keras", "--dataset", Run(folder / "run").result.dataset),
            "keras",
        ),
    ):
        done = python(tmp_path, "-c", program, *flags, "--out", flags[0][2:])
        assert all_files(tmp_path / flags[0][2:]) == EVALUATION_FILES | FIGURES
        assert imported in done.stdout.splitlines()[-1]
        assert done.stderr == ""
    litert, keras = (read_evaluation(tmp_path / name).model for name in ("litert", "keras"))
    assert litert.accuracy == keras.accuracy == Run(folder / "run").result.test_accuracy


def test_the_validation_split_is_that_of_training(exported, kapp, tmp_path):
    folder, _ = exported
    run = Run(folder / "run")
    done = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--split", "validation")
    assert done.returncode == 0, done.stderr
    evaluation = read_evaluation(tmp_path / "evaluations" / "run-onnx-on-tiny-validation")
    assert evaluation.model.accuracy == pytest.approx(run.result.val_accuracy, abs=1e-6)
    assert evaluation.images == run.result.validation_images == 40
    assert evaluation.reported_accuracy is None


def test_validation_images_of_its_own_are_evaluated_whole(tiny_npz, tmp_path):
    with np.load(tiny_npz) as file:
        arrays = {**file, "x_validation": 255 - file["x_test"][:30], "y_validation": file["y_test"][:30]}
    np.savez(tmp_path / "own.npz", **arrays)
    name = f"npz:{tmp_path / 'own.npz'}"
    # A run that held out none was not trained on these either.
    models = [predictor(len), predictor(len, run=run_summary(dataset=name, validation_images=0))]
    config = evaluate.Config(dataset=name, split="validation")
    validation = evaluate.load_dataset(config, None, models).validation
    np.testing.assert_array_equal(validation.images, arrays["x_validation"])


def test_image_files_are_classified(exported, kapp, tmp_path):
    import onnxruntime

    folder, _ = exported
    (tmp_path / "mine").mkdir()
    for name, gray in (("night.png", 20), ("snow.jpg", 235)):
        Image.new("RGB", (30, 20), (gray,) * 3).save(tmp_path / "mine" / name)
    done = kapp(
        "evaluate", "--onnx", folder / "run" / "export" / "onnx", "--images", "mine", "--out", "classified"
    )
    assert done.returncode == 0, done.stderr
    assert all_files(tmp_path / "classified") == EVALUATION_FILES | {"figures/images.png"}
    evaluation = read_evaluation(tmp_path / "classified")
    assert (evaluation.format, evaluation.images, evaluation.image_size) == ("onnx", 2, (8, 8))
    rows = list(csv.DictReader((tmp_path / "classified" / "predictions.csv").open()))
    session = onnxruntime.InferenceSession(folder / "run" / "export" / "onnx" / "model.onnx")
    for row, name, gray in zip(rows, ("night.png", "snow.jpg"), (20, 235)):
        ((probabilities,),) = session.run(
            ["probabilities"], {"images": np.full((1, 8, 8, 3), gray, np.uint8)}
        )
        assert [float(row[f"p_{name}"]) for name in CLASSES] == pytest.approx(probabilities, abs=1e-5)
        assert (row["image"], row["predicted"]) == (name, CLASSES[probabilities.argmax()])
        assert f"{name}: {row['predicted']}, {float(row['confidence']):.1%}\n" in done.stdout


def test_a_damaged_image_file_is_named(exported, kapp, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cut.png").write_bytes(b"\x89PNG\r\n")
    onnx = exported[0] / "run" / "export" / "onnx"
    done = kapp("evaluate", "--onnx", onnx, "--images", "mine", "--out", "cut")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "mine/cut.png" in done.stderr
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
    manifest = manifest_file.read(export)
    assert (manifest.name, manifest.classes) == ("mine", ("cat", "dog"))
    assert (manifest.run, manifest.source_file) == (None, "mine.keras")
    assert manifest.parity.compared_on.startswith("noise")
    assert manifest.parity.images == 500


def test_an_export_that_differs_from_the_network_is_deleted(exported, tmp_path):
    """Its weights are changed on the way."""
    folder, _ = exported
    program = (
        "import sys\n"
        "from kapp import cli\n"
        "from kapp.recipes import export\n"
        "cli.start_keras('tensorflow')\n"
        "from kapp.models import float32\n"
        "float32_copy = float32.float32_copy\n"
        "def changed_copy(network):\n"
        "    copy = float32_copy(network)\n"
        "    copy.set_weights([weight * 1.1 for weight in copy.get_weights()])\n"
        "    return copy\n"
        "float32.float32_copy = changed_copy\n"
        "cli.run(export.Config, export.main, sys.argv[1:])\n"
    )
    arguments = ("--run", folder / "run", "--out", "changed")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(r"kapp: the saved_model export differs from the network: .*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_loaded_only_if_its_files_are_unchanged(exported, kapp, tmp_path):
    folder, _ = exported
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run" / "export" / "saved_model", copy)
    data = copy / "variables" / "variables.data-00000-of-00001"
    weights = bytearray(data.read_bytes())
    weights[100] ^= 1
    data.write_bytes(weights)
    refused = kapp("evaluate", "--saved-model", "copy")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "variables.data-00000-of-00001 has changed" in refused.stderr
    second = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--compare-with", "copy")
    assert second.returncode == 1
    (copy / "manifest.json").unlink()
    weights[100] ^= 1
    data.write_bytes(weights)
    unlisted = kapp("evaluate", "--saved-model", "copy", "--dataset", "shapes")
    assert (unlisted.returncode, unlisted.stderr.count("\n")) == (2, 1)
    assert "copy has no manifest.json" in unlisted.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]

    dataset = Run(folder / "run").result.dataset
    accepted = kapp(
        "evaluate", "--saved-model", "copy", "--dataset", dataset, "--allow-unverified", "--out", "accepted"
    )
    assert accepted.returncode == 0, accepted.stderr
    assert read_evaluation(tmp_path / "accepted").model.name == "copy"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("export", "export needs either --run FOLDER or --keras FILE"),
        ("export --run run --keras a.keras", "export needs either --run FOLDER or --keras FILE"),
        ("export --run absent", "absent is not a run folder"),
        ("export --run run --classes a b", "--classes needs --keras"),
        ("export --run run", "run/export/saved_model contains an earlier export"),
        ("export --run run --out run --overwrite", "contains files but no export: nothing was changed"),
        ("export --run run --tolerance 0 --out new", "--tolerance is 0.0: it must be above 0"),
        (
            "export --keras old.h5 --classes a b",
            ".h5 files can run code",
        ),
        ("export --keras run/model.keras --classes a", "--keras needs --classes: at least 2 names"),
        (
            "export --run run --out new --dataset cifar11",
            "unknown data set 'cifar11'. Did you mean 'cifar10'?",
        ),
        ("evaluate", "evaluate needs one model: one of --saved-model, --run, --keras, --onnx, --litert"),
        ("evaluate --run run --onnx run/export/onnx", "evaluate needs one model"),
        ("evaluate --onnx run/export/litert/model.tflite", "has another format: use --litert"),
        ("evaluate --run run --compare-with gone.onnx", "there is no model at 'gone.onnx'"),
        ("evaluate --run run --compare-with old.pkl", ".pkl files can run code"),
        ("evaluate --keras run/model.keras", "is unknown: add --dataset NAME, or --images FOLDER"),
        ("evaluate --run run --dataset shaps", "unknown data set 'shaps'. Did you mean 'shapes'?"),
        ("evaluate --run run --images gone", "there is no folder 'gone' of image files"),
        ("evaluate --run run --images run", "run contains no image files"),
        (
            "evaluate --run run --images run --dataset shapes",
            "--images excludes --dataset and --compare-with",
        ),
        ("evaluate --run run --batch-size 0", "--batch-size is 0: it must be at least 1"),
        ("evaluate --run run --out run", "run contains files but no evaluation"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(exported, monkeypatch, capsys, command, message):
    folder, _ = exported
    monkeypatch.chdir(folder)
    before = all_files(folder)
    name, *flags = command.split()
    recipe = import_module(f"kapp.recipes.{name}")
    with pytest.raises(SystemExit) as ended:
        cli.run(recipe.Config, recipe.main, flags)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert error.startswith("kapp: ")
    assert message in error
    assert all_files(folder) == before


@pytest.mark.parametrize("command", ["export --run run", "evaluate --run run --out run", "evaluate --help"])
def test_a_refusal_imports_neither_keras_nor_a_runtime(exported, command):
    program = (
        "import sys; from importlib import import_module; from kapp import cli\n"
        "recipe = import_module('kapp.recipes.' + sys.argv[1])\n"
        "try: cli.run(recipe.Config, recipe.main, sys.argv[2:])\n"
        "finally: assert not {'keras', 'tensorflow', 'onnxruntime', 'matplotlib'} & set(sys.modules)"
    )
    arguments = [sys.executable, "-c", program, *command.split()]
    done = subprocess.run(arguments, cwd=exported[0], capture_output=True, text=True)
    assert done.returncode == (0 if "--help" in command else 2), done.stderr
    assert "AssertionError" not in done.stderr


def test_a_model_of_other_classes_is_refused(exported, kapp, tmp_path):
    folder, _ = exported
    with np.load(Run(folder / "run").result.dataset.partition(":")[2]) as arrays:
        np.savez(tmp_path / "renamed.npz", **{**arrays, "classes": ["light", "mid", "dark"]})
    done = kapp("evaluate", "--onnx", folder / "run" / "export" / "onnx", "--dataset", "npz:renamed.npz")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "are dark, mid, light; those of npz:renamed.npz are light, mid, dark" in done.stderr
    assert not (tmp_path / "evaluations").exists()
