"""What can't be exported, said before and after the attempt."""

import keras
import pytest
from keras import layers

from kapp.errors import Failure, WrongValue
from kapp.recipes import export
from kapp.serving import formats
from kapp.serving.classifier import classifier

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "tf2onnx" else True)
    formats.check("litert")
    with pytest.raises(WrongValue, match="exporting to onnx needs tf2onnx, which isn't installed"):
        formats.check("onnx")


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="of the other backends")
def test_a_process_that_runs_another_backend_cannot_export(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())  # put back afterwards
    with pytest.raises(WrongValue, match=f"Keras runs on {keras.backend.backend()} here already"):
        formats.start()


@on_tensorflow
def test_what_a_format_cannot_express_is_a_failure(tmp_path):
    """Neither ONNX as tf2onnx writes it nor LiteRT has Fourier transforms of two dimensions."""
    images = keras.Input((4, 4, 3))
    strange = keras.ops.fft2((images, images))[0]
    network = keras.Model(images, layers.Dense(2)(layers.Flatten()(strange)), name="strange")
    for format in ("onnx", "litert"):
        with pytest.raises(Failure, match=f"strange can't be exported to {format}"):
            formats.write(classifier(network), ["a", "b"], format, tmp_path)


@on_tensorflow
def test_as_many_classes_must_be_named_as_the_network_knows(tmp_path):
    images = keras.Input((4, 4, 3))
    keras.Model(images, layers.Dense(2)(layers.Flatten()(images))).save(tmp_path / "two.keras")
    config = export.Config(keras=tmp_path / "two.keras", classes=("a", "b", "c"), out=tmp_path / "out")
    config.check()
    with pytest.raises(WrongValue, match="the network knows 2 classes, 3 are named"):
        export.main(config)
    assert [path.name for path in tmp_path.iterdir()] == ["two.keras"]
