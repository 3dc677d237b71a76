"""Refused exports: a missing package, another backend, an unsupported layer, wrong classes."""

import keras
import pytest
from keras import layers

from kapp.errors import ConfigError, KappError
from kapp.export import formats
from kapp.export.classifier import build_classifier
from kapp.recipes import export

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "tf2onnx" else True)
    formats.check_packages("litert", formats.EXPORT_PACKAGES)
    formats.check_packages("onnx", formats.RUNTIME_PACKAGES)
    with pytest.raises(ConfigError, match="onnx needs tf2onnx, which isn't installed: pip install tf2onnx"):
        formats.check_packages("onnx", formats.EXPORT_PACKAGES)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="tests other backends")
def test_a_process_on_another_backend_cannot_export(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())  # restored after the test
    with pytest.raises(ConfigError, match=f"Keras runs on {keras.backend.backend()} in this process"):
        formats.start_tensorflow()


@on_tensorflow
def test_a_layer_that_a_format_cannot_express_is_named(tmp_path):
    """Neither tf2onnx nor LiteRT has two-dimensional Fourier transforms."""
    images = keras.Input((4, 4, 3))
    strange = keras.ops.fft2((images, images))[0]
    network = keras.Model(images, layers.Dense(2)(layers.Flatten()(strange)), name="strange")
    for format in ("onnx", "litert"):
        with pytest.raises(KappError, match=f"strange can't be exported to {format}"):
            formats.write(build_classifier(network), ["a", "b"], format, tmp_path)


@on_tensorflow
def test_a_network_for_images_of_any_size_is_exported_for_those_of_a_data_set(tmp_path, tiny_npz):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    images = keras.Input((None, None, 3))
    network = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(images)))
    network.save(tmp_path / "free.keras")
    settings = {"keras": tmp_path / "free.keras", "classes": ("a", "b", "c"), "format": ("onnx",)}
    with pytest.raises(ConfigError, match=r"free.keras takes images of any size, .* add --dataset NAME"):
        export.main(export.Config(**settings, out=tmp_path / "without"))
    assert not (tmp_path / "without").exists()
    export.main(export.Config(**settings, out=tmp_path / "onnx", dataset=f"npz:{tiny_npz}"))
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    assert session.get_inputs()[0].shape[1:] == [8, 8, 3]


@on_tensorflow
def test_the_number_of_class_names_must_be_that_of_the_network(tmp_path):
    images = keras.Input((4, 4, 3))
    keras.Model(images, layers.Dense(2)(layers.Flatten()(images))).save(tmp_path / "two.keras")
    config = export.Config(keras=tmp_path / "two.keras", classes=("a", "b", "c"), out=tmp_path / "out")
    config.check()
    with pytest.raises(ConfigError, match="the network has 2 classes, but --classes names 3"):
        export.main(config)
    assert [path.name for path in tmp_path.iterdir()] == ["two.keras"]
