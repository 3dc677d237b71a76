"""Any path to a Predictor; and whether an export's parity can fail."""

import json
import subprocess
import sys

import numpy as np
import pytest

from kapp import models
from kapp.errors import Failure, WrongValue
from kapp.serving import parity, predictor, timing
from kapp.serving.predictor import Predictor

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
ANSWERS = np.random.default_rng(1).dirichlet(np.ones(3), 7)


def predicting(answer, **changes) -> Predictor:
    known = {
        "name": "mine",
        "kind": "onnx",
        "image_shape": (8, 8, 3),
        "classes": (),
        "bytes": 1,
        "device": "",
    }
    return Predictor(answer=answer, facts={}, **{**known, **changes})


def looked_up(images: np.ndarray) -> np.ndarray:
    """The answers to `IMAGES`, whichever of them are asked."""
    places = [int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0]) for image in images]
    return ANSWERS[places]


def test_batches_are_put_together_and_logits_become_probabilities():
    sizes = []

    def answer(images):
        sizes.append(len(images))
        return np.log(looked_up(images)) + 5

    np.testing.assert_allclose(predicting(answer).predict(IMAGES, batch_size=3), ANSWERS)
    assert sizes == [3, 3, 1]
    np.testing.assert_array_equal(predicting(looked_up).predict(IMAGES), ANSWERS)


def test_unfit_images_and_answers_are_refused():
    with pytest.raises(WrongValue, match=r"mine takes images of \(9, 9, 3\), these are \(8, 8, 3\)"):
        predicting(looked_up, image_shape=(9, 9, 3)).predict(IMAGES)
    predicting(looked_up, image_shape=(None, None, 3)).predict(IMAGES)
    with pytest.raises(Failure, match=r"answers \(7,\) to 7 images"):
        predicting(lambda images: looked_up(images)[:, 0]).predict(IMAGES)
    with pytest.raises(Failure, match="isn't a number"):
        predicting(lambda images: looked_up(images) * np.nan).predict(IMAGES)


def test_parity_is_measured_on_whole_batches_and_on_one_image():
    found = parity.measure(ANSWERS, predicting(lambda images: looked_up(images) + 1e-6), IMAGES, 1e-4)
    assert found["largest_difference"] == pytest.approx(1e-6)
    assert (found["images"], found["tolerance"], found["same_class"]) == (7, 1e-4, 1.0)
    alone_differs = predicting(lambda images: looked_up(images) + (len(images) == 1) * 1e-3)
    with pytest.raises(Failure, match=r"differs by 1.0e-03, more than the 1e-04 accepted"):
        parity.measure(ANSWERS, alone_differs, IMAGES, 1e-4)


@pytest.mark.parametrize(
    "broken",
    [
        lambda images: looked_up(images)[:, ::-1],  # other order of classes
        lambda images: looked_up(images[::-1]),  # other order of images
        lambda images: np.log(looked_up(images)) * 2,  # other logits
    ],
)
def test_parity_finds_an_export_that_is_not_the_network(broken):
    with pytest.raises(Failure, match="isn't the network"):
        parity.measure(ANSWERS, predicting(broken), IMAGES, 1e-2)
    with pytest.raises(Failure, match=r"answers \(7, 2\), the network \(7, 3\)"):
        parity.measure(ANSWERS, predicting(lambda images: looked_up(images)[:, :2]), IMAGES, 1e-2)


def test_timing_asks_for_one_image_and_for_a_whole_batch():
    asked = []
    found = timing.measure(predicting(lambda images: asked.append(images.shape)), IMAGES, batch_size=10)
    assert set(asked) == {(1, 8, 8, 3), (10, 8, 8, 3)}
    assert found["latency_ms"] > 0
    assert found["images_per_second"] > 0
    assert found["batch_size"] == 10


def test_the_kind_of_a_path_is_recognised(tmp_path):
    for name in ("a.keras", "a.onnx", "a.tflite"):
        (tmp_path / name).write_bytes(b"")
    for folder, file in (
        ("s", "saved_model.pb"),
        ("o", "model.onnx"),
        ("l", "model.tflite"),
        ("r", "config.json"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"")
    paths = "a.keras a.onnx a.tflite s o l r".split()
    kinds = "keras onnx litert saved_model onnx litert run".split()
    assert [predictor.kind(tmp_path / path) for path in paths] == kinds


def test_an_evaluation_is_called_after_the_run_and_stays_where_it_belongs(tmp_path):
    for run in ("mine", "../../mine"):
        (tmp_path / "model.onnx").write_bytes(b"")
        held = {"classes": [], "source": {"run": run}, "sha256": {"model.onnx": ""}}
        (tmp_path / "manifest.json").write_text(json.dumps(held))
        assert predictor.label(tmp_path / "model.onnx") == "mine-onnx"
    (tmp_path / "manifest.json").unlink()
    assert predictor.label(tmp_path / "model.onnx") == "model-onnx"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model.h5", "can run code when they are loaded, so kapp doesn't.*model.save"),
        ("model.pkl", "can run code"),
        ("absent.onnx", "there is no model at '.*absent.onnx': give a run folder"),
        ("notes.txt", "notes.txt is no model that kapp knows"),
        ("empty", "is not a run folder"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(WrongValue, match=message):
        predictor.kind(tmp_path / path)


def test_a_keras_file_predicts(tmp_path):
    network = models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3))
    network.save(tmp_path / "mine.keras")
    model = predictor.load(tmp_path / "mine.keras")
    assert (model.name, model.kind, model.classes) == ("mine", "keras", ())
    assert model.facts["parameters"] == network.count_params()
    assert model.bytes == (tmp_path / "mine.keras").stat().st_size
    np.testing.assert_allclose(model.predict(IMAGES), parity.reference(network)(IMAGES), atol=1e-6)


def test_a_damaged_onnx_file_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "mine.onnx").write_bytes(b"not a model")
    with pytest.raises(Failure, match="cannot load .*mine.onnx"):
        predictor.load(tmp_path / "mine.onnx")


def test_the_room_knows_nothing_of_training_and_starts_no_keras():
    program = (
        "import sys; from kapp.serving import card, formats, manifest, predictor, runtimes, scoring, timing; "
        "print({'keras', 'tensorflow', 'onnxruntime', 'kapp.training'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
