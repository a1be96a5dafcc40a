import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from recog.core.errors import ConfigError
from recog.deployment.quantize import quantize
from recog.runtime.engine import open_engine


def network_file(folder, weights, *, with_convolution=True):
    """images uint8 [B, 4, 4, 1] -> convolution 1 x 1 and mean -> linear: float logits [B, 2] and features [B, 3]."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w", "b"], ["maps"], name="conv")
        if with_convolution
        else helper.make_node("Expand", ["x", "shape"], ["maps"], name="expand"),
        helper.make_node("Relu", ["maps"], ["active"], name="relu"),
        helper.make_node("ReduceMean", ["active", "axes"], ["features"], keepdims=0),
        helper.make_node("Gemm", ["features", "fc"], ["logits"], name="fc"),
    ]
    tensors = {
        "w": weights,
        "b": np.zeros(3, np.float32),
        "axes": np.array([2, 3]),
        "shape": np.array([1, 3, 1, 1]),
        "fc": np.ones((3, 2), np.float32),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 4, 4, 1])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 3]),
        ],
        [numpy_helper.from_array(array, name) for name, array in tensors.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, {"class_names": '["a", "b"]'})
    path = folder / "network.onnx"
    onnx.save(model, path)
    return path


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
WEIGHTS = np.array([1.0, 0.013, -1.0], np.float32).reshape(3, 1, 1, 1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt", "openvino"])
def test_weights_are_int8_per_channel_and_the_last_layer_stays_float(tmp_path, runtime):
    quantize(network_file(tmp_path, WEIGHTS), IMAGES, tmp_path / "int8.onnx", runtime=runtime)
    model = onnx.load(tmp_path / "int8.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (weights,) = (array for array in tensors.values() if array.dtype == np.int8 and array.shape == (3, 1, 1, 1))
    # each channel has a scale of its own: the largest weight is 127, however small it is
    np.testing.assert_array_equal(np.abs(weights.ravel()), [127, 127, 127])
    assert "fc" in tensors
    zero_points = [array for name, array in tensors.items() if name.endswith("zero_point") and array.dtype != np.int32]
    if runtime == "tensorrt":
        assert all(array.dtype == np.int8 and not array.any() for array in zero_points)
    else:
        assert any(array.dtype == np.uint8 for array in zero_points)


def test_recog_opens_it_and_the_answers_are_near(tmp_path):
    path = network_file(tmp_path, WEIGHTS)
    quantize(path, IMAGES, tmp_path / "int8.onnx")
    ours, theirs = (open_engine(file, num_threads=1)(IMAGES) for file in (path, tmp_path / "int8.onnx"))
    assert open_engine(tmp_path / "int8.onnx", num_threads=1).class_names == ("a", "b")
    # steps of 1 level of 255, of which a mean over 16 pixels keeps a quarter; the channels' scales are 1 and 0.013
    np.testing.assert_allclose(theirs.features, ours.features, atol=0.5)


def test_biases_take_out_what_quantisation_shifts(tmp_path):
    """The mean of every channel over the images is that of the float network, to a step of the bias."""
    path = network_file(tmp_path, WEIGHTS)
    quantize(path, IMAGES, tmp_path / "int8.onnx")

    def means(file):
        model = onnx.load(file)
        name = next(node.output[0] for node in model.graph.node if node.name == "conv")
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return session.run([name], {"images": IMAGES[:32]})[0].mean(axis=(0, 2, 3))

    # a step of a bias is the scale of the input, 1, times that of the weights, a 127th of the largest
    np.testing.assert_array_less(np.abs(means(tmp_path / "int8.onnx") - means(path)), np.array([1, 0.013, 1]) / 127)


def deep_network_file(folder, *, first=()):
    """images uint8 [B, 4, 4, 2] -> depthwise 3 x 3 of 2 channels -> 1 x 1 to 64 -> 1 x 1 to 64 -> means: 4,258 weights.

    `first` are weights [2, 1, 1, 1] of a depthwise layer before it.
    """
    rng = np.random.default_rng(0)
    depthwise = np.full((2, 1, 3, 3), 0.0039, np.float32)  # rounds to 0, steps are 1 / 127
    depthwise[:, 0, 1, 1] = 1
    wide = rng.normal(size=(64, 2, 1, 1)).astype(np.float32)
    last = np.round(rng.uniform(-127, 127, (64, 64, 1, 1))).astype(np.float32)
    last[:, 0] = 127  # whole numbers of steps: its rounding changes nothing
    tensors = {
        "dw": depthwise,
        "wide": np.round(wide * 10),
        "pw": last,
        "axes": np.array([2, 3]),
        "fc": np.ones((64, 2), np.float32),
    }
    tensors["wide"][:, 0] = 127
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x"], perm=[0, 3, 1, 2]),
        *([helper.make_node("Conv", ["x", "first"], ["y"], name="first", group=2)] if len(first) else ()),
        helper.make_node(
            "Conv", ["y" if len(first) else "x", "dw"], ["a"], name="depthwise", group=2, pads=[1, 1, 1, 1]
        ),
        helper.make_node("Conv", ["a", "wide"], ["b"], name="wide"),
        helper.make_node("Conv", ["b", "pw"], ["c"], name="large"),
        helper.make_node("ReduceMean", ["c", "axes"], ["features"], keepdims=0),
        helper.make_node("Gemm", ["features", "fc"], ["logits"], name="fc"),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size])
        for name, size in (("logits", 2), ("features", 64))
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 4, 4, 2])],
        outputs,
        [
            numpy_helper.from_array(array.astype(np.int64 if name == "axes" else np.float32), name)
            for name, array in (tensors | ({"first": first} if len(first) else {})).items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, folder / "deep.onnx")
    return folder / "deep.onnx"


TWO_CHANNELS = np.random.default_rng(1).integers(0, 256, (16, 4, 4, 2), dtype=np.uint8)


def test_a_small_layer_whose_rounding_changes_the_features_stays_float(tmp_path):
    """18 of 4,242 weights cause every change: as whole numbers of steps those of the other layers are exact."""
    quantize(deep_network_file(tmp_path), TWO_CHANNELS, tmp_path / "int8.onnx")
    model = onnx.load(tmp_path / "int8.onnx")
    dtypes = {t.name.removesuffix("_quantized"): t.data_type for t in model.graph.initializer}
    assert dtypes["dw"] == TensorProto.FLOAT
    assert (dtypes["wide"], dtypes["pw"]) == (TensorProto.INT8, TensorProto.INT8)


def test_of_two_forms_the_one_nearer_to_the_network_is_taken(tmp_path):
    """Ones in the first layer are exact in integers; in the one behind it eight of nine weights round to 0."""
    behind = deep_network_file(tmp_path, first=np.ones((2, 1, 1, 1), np.float32))
    assert quantize(behind, TWO_CHANNELS, tmp_path / "int8.onnx") == ("depthwise", "fc")


def test_equal_zero_points_are_stored_once(tmp_path):
    quantize(deep_network_file(tmp_path), TWO_CHANNELS, tmp_path / "int8.onnx")
    model = onnx.load(tmp_path / "int8.onnx")
    used = [
        node.input[2]
        for node in model.graph.node
        if node.op_type.endswith("quantizeLinear") or "Quantize" in node.op_type
    ]
    tensors = {t.name: t for t in model.graph.initializer}
    contents = [numpy_helper.to_array(tensors[name]) for name in set(used)]
    keys = {(array.dtype.str, array.shape, array.tobytes()) for array in contents}
    assert len(keys) == len(contents) < len(used)


def test_for_openvino_biases_are_the_same_floats(tmp_path):
    path = network_file(tmp_path, WEIGHTS)
    quantize(path, IMAGES, tmp_path / "plain.onnx")
    quantize(path, IMAGES, tmp_path / "openvino.onnx", runtime="openvino")
    plain, other = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / name).graph.initializer}
        for name in ("plain.onnx", "openvino.onnx")
    )
    np.testing.assert_allclose(other["conv_bias"], plain["b_quantized"] * plain["b_quantized_scale"], rtol=1e-6)
    assert not any(array.dtype == np.int32 for array in other.values())


@pytest.mark.parametrize(("runtime", "reads"), [("onnxruntime", "DequantizeLinear"), ("openvino", "Conv")])
def test_for_openvino_means_are_of_float_values(tmp_path, runtime, reads):
    quantize(deep_network_file(tmp_path), TWO_CHANNELS, tmp_path / "int8.onnx", runtime=runtime)
    model = onnx.load(tmp_path / "int8.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    biases = [
        types[node.input[2]]
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[2:3] and node.input[2] in types
    ]
    assert set(biases) <= {TensorProto.FLOAT}
    (mean,) = (node for node in model.graph.node if node.op_type == "ReduceMean")
    assert next(node.op_type for node in model.graph.node if mean.input[0] in node.output) == reads


def test_a_network_with_nothing_to_quantise_is_refused(tmp_path):
    path = network_file(tmp_path, WEIGHTS, with_convolution=False)
    with pytest.raises(ConfigError, match="no convolution or matrix product that could be quantised; leave --int8 out"):
        quantize(path, IMAGES, tmp_path / "int8.onnx")
