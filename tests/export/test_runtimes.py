"""Models that other programs exported: accepted, or refused with the reason."""

import numpy as np
import pytest

from kapp.errors import KappError
from kapp.export.predictor import load, softmax

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 6, 3)).astype(np.uint8)


def onnx_file(path, shape=("n", 8, 6, 3), dtype="FLOAT", outputs=1):
    """The mean of each channel, as the logits of a network of another program."""
    onnx = pytest.importorskip("onnx")
    h, kind = onnx.helper, getattr(onnx.TensorProto, dtype)
    names = [f"y{i}" for i in range(outputs)]
    nodes = [h.make_node("Cast", ["x"], ["float"], to=onnx.TensorProto.FLOAT)]
    nodes += [h.make_node("ReduceMean", ["float"], [name], axes=[1, 2], keepdims=0) for name in names]
    graph = h.make_graph(
        nodes,
        "means",
        [h.make_tensor_value_info("x", kind, shape)],
        [h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (shape[0], shape[3])) for name in names],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("dtype", ["UINT8", "FLOAT16", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("batch", ["n", 1])
def test_onnx_files_of_several_dtypes_and_batch_sizes_predict(tmp_path, dtype, batch):
    model = load(onnx_file(tmp_path / "mine.onnx", (batch, 8, 6, 3), dtype))
    expected = softmax(IMAGES.mean(axis=(1, 2)))
    np.testing.assert_allclose(model.predict(IMAGES), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": ("n", 3, 8, 6)}, r"input of .* is \(n, channels, height, width\), but images are"),
        ({"dtype": "INT64"}, r"its input is tensor\(int64\), not images"),
        ({"outputs": 2}, r"none of its outputs \(y0, y1\) is called probabilities"),
    ],
)
def test_other_onnx_files_are_refused_with_the_reason(tmp_path, arguments, message):
    with pytest.raises(KappError, match=message):
        load(onnx_file(tmp_path / "mine.onnx", **arguments))


def test_an_error_of_the_runtime_becomes_one_line(tmp_path):
    model = load(onnx_file(tmp_path / "mine.onnx", (4, 8, 6, 3)))
    with pytest.raises(KappError, match=r"mine can't predict 7 images of \(8, 6, 3\): "):
        model.predict(IMAGES)


def test_the_size_includes_the_weights_file_of_pytorch(tmp_path):
    path = onnx_file(tmp_path / "mine.onnx")
    (tmp_path / "mine.onnx.data").write_bytes(bytes(1000))
    assert load(path).size_bytes == path.stat().st_size + 1000


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_quantized_litert_files_are_refused(tmp_path):
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 6, 3))])
    def mean(images):
        return tf.nn.softmax(tf.reduce_mean(images, [1, 2]))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([mean.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in IMAGES)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (tmp_path / "mine.tflite").write_bytes(converter.convert())
    with pytest.raises(
        KappError, match="its input or output is quantized: convert it with float input and output"
    ):
        load(tmp_path / "mine.tflite")
