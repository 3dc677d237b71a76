import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from kapp import models
from kapp.errors import ConfigError, KappError
from kapp.models import keras_file
from kapp.run_folder import Run
from tests.example_records import CONFIG, RESULT

CLASSES = ("a", "b", "c")
IMAGE_SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *IMAGE_SHAPE)).astype(np.uint8)


def small_model(**settings) -> keras.Model:
    return models.build("4c-mp-3fc", 3, image_shape=IMAGE_SHAPE, **settings)


def save(model: keras.Model, folder) -> str:
    model.save(folder / "teacher.keras")
    return str(folder / "teacher.keras")


def predictions(model: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(IMAGES))


@pytest.fixture
def run(tmp_path) -> Run:
    """An unfinished run with a model of `CLASSES`."""
    run = Run.create(tmp_path / "run", CONFIG)
    small_model().save(run.model_file)
    run.write_confusion(np.eye(3, dtype=int), CLASSES)
    return run


def test_a_loaded_model_makes_the_same_predictions(tmp_path):
    model = small_model()
    loaded = keras_file.load(save(model, tmp_path), IMAGE_SHAPE, CLASSES)
    np.testing.assert_allclose(predictions(loaded), predictions(model), atol=1e-5)


def test_classes_and_image_sizes_must_fit(tmp_path):
    file = save(small_model(), tmp_path)
    with pytest.raises(ConfigError, match="has 3 classes, the data set has 4"):
        keras_file.load(file, IMAGE_SHAPE, [*CLASSES, "d"])
    with pytest.raises(
        ConfigError, match="takes images of \\(8, 8, 3\\), the data set has \\(32, 32, 3\\)\\. Use a model"
    ):
        keras_file.load(file, (32, 32, 3), CLASSES)


def test_the_classes_of_a_run_must_match_by_name(run):
    for fitting in (CLASSES, ("0", "1", "2"), None):
        assert keras_file.load(run.folder, IMAGE_SHAPE, fitting).output_shape == (None, 3)
    with pytest.raises(ConfigError, match=r"has the classes a, b, c, the data set has c, b, a.*model\.keras"):
        keras_file.load(run.folder, IMAGE_SHAPE, CLASSES[::-1])
    assert keras_file.load(run.model_file, IMAGE_SHAPE, CLASSES[::-1])  # a file has no class names


def test_models_for_images_of_any_size_fit(tmp_path):
    model = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(3, 1), layers.GlobalAveragePooling2D()]
    )
    assert keras_file.load(save(model, tmp_path), IMAGE_SHAPE, CLASSES).output_shape == (None, 3)


def test_models_that_are_no_classifiers_are_refused(tmp_path):
    model = keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Conv2D(3, 1)])
    with pytest.raises(ConfigError, match="teacher .*keras must be a functional model, or a Sequential one"):
        keras_file.load(save(model, tmp_path), IMAGE_SHAPE, CLASSES)


def test_what_a_classifier_is(tmp_path):
    images, numbers = keras.Input(IMAGE_SHAPE), keras.Input((4,))
    maps = layers.Conv2D(3, 1)(images)
    logits = layers.Flatten()(maps)
    sequential = keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Flatten()])
    loaded = keras.models.load_model(save(sequential, tmp_path))
    for model in (keras.Model(images, logits), keras.Model([images], logits), sequential, loaded):
        assert keras_file.is_classifier(model)
    for outputs in (maps, [logits], (logits, logits), {"logits": logits}):
        assert not keras_file.is_classifier(keras.Model(images, outputs))
    for inputs in (numbers, [images, numbers]):
        assert not keras_file.is_classifier(keras.Model(inputs, layers.Dense(3)(numbers)))
    assert not keras_file.is_classifier(keras.Sequential([layers.Flatten()]))  # its input is unknown
    assert not keras_file.is_classifier(layers.Flatten())


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_probabilities_are_recognized(activation):
    model = keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Flatten(), layers.Dense(3, activation)])
    assert keras_file.outputs_probabilities(model) == (activation == "softmax")


def test_p_norm_pooling_is_loaded_in_a_new_process(tmp_path):
    file = save(small_model(pooling_norm=2.0), tmp_path)
    program = (
        "import sys; from kapp.models import keras_file; assert 'keras' not in sys.modules; "
        f"print(keras_file.load({file!r}, {IMAGE_SHAPE}, {CLASSES}).output_shape)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.stdout.strip() == "(None, 3)", process.stderr


def test_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "teacher.keras"
    save(small_model(), tmp_path)
    whole = file.read_bytes()
    for damaged in (whole[:300], whole.replace(b"config.json", b"gonfic.json")):
        file.write_bytes(damaged)
        with pytest.raises(KappError, match=rf"cannot load {file}: .*[^.]\. Save it again with"):
            keras_file.load(file, IMAGE_SHAPE, CLASSES)


def test_a_file_with_code_is_refused(tmp_path):
    model = keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Lambda(lambda x: x * 2), layers.Flatten()])
    with pytest.raises(KappError):
        keras_file.load(save(model, tmp_path), IMAGE_SHAPE, CLASSES)


def test_run_folders_and_files_are_told_from_names(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="teacher '.*run' is an unfinished run"):
        keras_file.is_file(str(run.folder), models.names())
    run.write_result(RESULT)
    file = save(small_model(), tmp_path)
    for source, name, path in ((run.folder, RESULT.model, run.model_file), (file, "teacher", file)):
        assert keras_file.is_file(str(source), models.names())
        assert (keras_file.name(source), str(keras_file.path(source))) == (name, str(path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep_resnet").mkdir()
    assert not keras_file.is_file("deep_resnet", models.names())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("deep_resnt", "Did you mean 'deep_resnet'.*or a run folder, or a .keras file"),
        ("model.h5", "model.save\\('teacher.keras'\\)"),
        ("weights.pth", "can run code"),
        ("nowhere.keras", "there is no file 'nowhere.keras'"),
    ],
)
def test_other_sources_are_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        keras_file.is_file(source, models.names())
