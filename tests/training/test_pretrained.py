import subprocess
import sys

import keras
import numpy as np
import pytest

from kapp import models
from kapp.errors import Failure, WrongValue
from kapp.runs import Run
from kapp.training import pretrained

CLASSES = ("a", "b", "c")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)


def written(tmp_path, network) -> str:
    path = tmp_path / "teacher.keras"
    network.save(path)
    return str(path)


def numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def test_a_keras_file_teaches_with_the_logits_it_was_saved_with(tmp_path):
    network = models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3))
    loaded = pretrained.load(written(tmp_path, network), (8, 8, 3), CLASSES)
    np.testing.assert_allclose(numpy(loaded(IMAGES)), numpy(network(IMAGES)), atol=1e-5)


def test_unfit_teachers_are_refused(tmp_path):
    path = written(tmp_path, models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3)))
    with pytest.raises(WrongValue, match="knows 3 classes, the data set has 4"):
        pretrained.load(path, (8, 8, 3), [*CLASSES, "d"])
    with pytest.raises(WrongValue, match="takes images of \\(8, 8, 3\\), the data set has \\(32, 32, 3\\)"):
        pretrained.load(path, (32, 32, 3), CLASSES)


def test_a_run_whose_classes_are_called_otherwise_is_refused(tmp_path):
    run = Run.start(tmp_path / "run", {"recipe": "train"})
    models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3)).save(run.model_file)
    run.write_confusion(np.eye(3, dtype=int), CLASSES)
    for fitting in (CLASSES, ("0", "1", "2"), None):
        assert pretrained.load(run.folder, (8, 8, 3), fitting).output_shape == (None, 3)
    with pytest.raises(
        WrongValue, match=r"knows the classes a, b, c, the data set has c, b, a.*model\.keras"
    ):
        pretrained.load(run.folder, (8, 8, 3), CLASSES[::-1])
    assert pretrained.load(run.model_file, (8, 8, 3), CLASSES[::-1])  # which knows no names


def test_a_teacher_of_images_of_any_size_fits(tmp_path):
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 1)(inputs)))
    assert pretrained.load(written(tmp_path, network), (8, 8, 3), CLASSES).output_shape == (None, 3)


def test_a_folder_called_as_a_network_is_does_not_hide_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep_resnet").mkdir()
    assert not pretrained.is_file("deep_resnet", models.names())


def test_a_teacher_that_pools_by_a_p_norm_is_loaded_in_a_fresh_process(tmp_path):
    network = models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3), pooling_norm=2.0)
    path = written(tmp_path, network)
    program = (
        "from kapp.training import pretrained; "
        f"print(pretrained.load({path!r}, (8, 8, 3), {CLASSES}).output_shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(None, 3)", done.stderr


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "teacher.keras"
    written(tmp_path, models.build("4c-mp-3fc", 3, image_shape=(8, 8, 3)))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(Failure, match=f"cannot load {path}"):
        pretrained.load(str(path), (8, 8, 3), CLASSES)


def test_a_file_that_holds_code_is_not_run(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda x: x * 2)(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    with pytest.raises(Failure, match="cannot load"):
        pretrained.load(written(tmp_path, network), (8, 8, 3), CLASSES)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("deep_resnt", "Did you mean 'deep_resnet'"),
        ("model.h5", "model.save\\('teacher.keras'\\)"),
        ("weights.pth", "can run code"),
        ("nowhere.keras", "there is no file 'nowhere.keras'"),
    ],
)
def test_what_is_no_teacher_is_refused_by_its_name(teacher, message):
    with pytest.raises(WrongValue, match=message):
        pretrained.is_file(teacher, models.names())
