"""Models of any format: found by their path, loaded, and predicting probabilities."""

import subprocess
import sys

import numpy as np
import pytest

from kapp import models
from kapp.errors import ConfigError, KappError
from kapp.export import manifest as manifest_file
from kapp.export import parity
from kapp.export.predictor import find, find_format, load
from tests.export.helpers import manifest, predictor, run_summary

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
PROBABILITIES = np.random.default_rng(1).dirichlet(np.ones(3), 7)


def test_predict_concatenates_batches_and_takes_the_softmax_of_logits():
    sizes = []

    def predict_batch(images):
        start = sum(sizes)
        sizes.append(len(images))
        return np.log(PROBABILITIES[start : start + len(images)]) + 5

    np.testing.assert_allclose(predictor(predict_batch).predict(IMAGES, batch_size=3), PROBABILITIES)
    assert sizes == [3, 3, 1]


def test_predict_returns_probabilities_unchanged():
    np.testing.assert_array_equal(predictor(lambda images: PROBABILITIES).predict(IMAGES), PROBABILITIES)


def test_predict_accepts_any_size_where_the_model_does():
    predictor(lambda images: PROBABILITIES, image_shape=(None, None, 3)).predict(IMAGES)
    with pytest.raises(ConfigError, match=r"mine takes images of \(9, 9, 3\), not \(8, 8, 3\)"):
        predictor(lambda images: PROBABILITIES, image_shape=(9, 9, 3)).predict(IMAGES)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (PROBABILITIES[:, 0], r"predicts \(7,\) for 7 images, not \(n, classes\)"),
        (PROBABILITIES * np.nan, "predicts values that aren't finite"),
    ],
)
def test_predict_refuses_outputs_that_are_no_scores_of_classes(outputs, message):
    with pytest.raises(KappError, match=message):
        predictor(lambda images: outputs).predict(IMAGES)


def test_find_format_goes_by_suffix_or_by_the_files_in_a_folder(tmp_path):
    paths = {
        "a.keras": "keras",
        "a.onnx": "onnx",
        "a.tflite": "litert",
        "s/saved_model.pb": "saved_model",
        "o/model.onnx": "onnx",
        "l/model.tflite": "litert",
        "r/config.json": "run",
    }
    for name, format in paths.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
        assert find_format(tmp_path / name.partition("/")[0]) == format


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model.h5", "model.h5 isn't loaded: .h5 files can run code.*model.save"),
        ("model.joblib", "can run code"),
        ("absent.onnx", "there is no model at '.*absent.onnx'. Accepted: a run folder"),
        ("notes.txt", "notes.txt isn't a model that kapp can load"),
        ("empty", "is not a run folder"),
    ],
)
def test_find_format_refuses_what_is_no_model(tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=message):
        find_format(tmp_path / path)


@pytest.mark.parametrize("run_name", ["mine", "../../mine"])
def test_the_label_is_the_name_of_the_run_and_no_path(tmp_path, run_name):
    (tmp_path / "model.onnx").write_bytes(b"")
    assert find(tmp_path / "model.onnx").label == "model-onnx"
    manifest_file.write(manifest(run=run_summary(name=run_name)), tmp_path)
    assert find(tmp_path / "model.onnx").label == "mine-onnx"


def test_a_file_that_the_manifest_does_not_list_is_of_another_model(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    manifest_file.write(manifest(), tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"")
    assert find(tmp_path / "model.onnx").classes == ("cat", "dog")
    assert find(tmp_path / "other.onnx").manifest is None


def test_a_keras_file_predicts(tmp_path):
    network = models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3))
    network.save(tmp_path / "mine.keras")
    model = load(tmp_path / "mine.keras")
    assert (model.name, model.format, model.classes, model.run) == ("mine", "keras", (), None)
    assert model.parameters == network.count_params()
    assert model.size_bytes == (tmp_path / "mine.keras").stat().st_size
    expected = parity.reference_probabilities(network, IMAGES)
    np.testing.assert_allclose(model.predict(IMAGES), expected, atol=1e-6)


def test_a_damaged_onnx_file_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "mine.onnx").write_bytes(b"not a model")
    with pytest.raises(KappError, match="cannot load .*mine.onnx"):
        load(tmp_path / "mine.onnx")


def test_importing_the_package_imports_neither_training_nor_a_runtime():
    program = (
        "import sys; "
        "from kapp.export import formats, latency, manifest, model_card, predictor, runtimes, scoring; "
        "print({'keras', 'tensorflow', 'onnxruntime', 'kapp.training'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
