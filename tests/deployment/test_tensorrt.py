import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from recog.core.errors import ConfigError, MissingExtraError
from recog.deployment.tensorrt import build_engine, check_rules, with_cast_first


def network(nodes, tensors=(), opset=20):
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 2, 2, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [images], [logits], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


CAST = helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT)
RELU = helper.make_node("Relu", ["x"], ["logits"])


def quantised(zero_point):
    scale = numpy_helper.from_array(np.float32(0.5), "scale")
    zero = numpy_helper.from_array(zero_point, "zero")
    pair = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="Q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"], name="DQ"),
    ]
    return network([CAST, *pair], [scale, zero])


def test_what_the_parser_takes_passes():
    check_rules(network([CAST, RELU]))
    check_rules(quantised(np.int8(0)))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (network([CAST, RELU], opset=8), "its opset is 8, not 9 to 25"),
        (network([CAST, helper.make_node("NonZero", ["x"], ["logits"])]), "the operator NonZero is not supported"),
        (network([helper.make_node("Reshape", ["images", "s"], ["logits"])]), "its uint8 input goes into Reshape"),
        (network([CAST, RELU], [numpy_helper.from_array(np.ones(2), "w")]), "w holds 64-bit floats"),
        (quantised(np.int8(3)), "Q has a zero point other than 0; DQ has"),
        (quantised(np.uint8(0)), "Q quantises to UINT8, not INT8"),
    ],
)
def test_each_broken_rule_is_named(model, reason):
    with pytest.raises(ConfigError, match=reason):
        check_rules(model)


def test_the_input_is_cast_first_and_the_answers_stay(digits_run):
    path = digits_run.bundle / "model.onnx"
    changed = with_cast_first(onnx.load(path))
    check_rules(changed)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    ours, theirs = (
        onnxruntime.InferenceSession(file).run(["logits"], {"images": images})[0]
        for file in (str(path), changed.SerializeToString())
    )
    np.testing.assert_array_equal(ours, theirs)


def test_a_feature_map_is_left_out(mapped_bundle):
    model = with_cast_first(onnx.load(mapped_bundle / "model.onnx"))
    assert [value.name for value in model.graph.output] == ["logits", "features"]


def test_without_tensorrt_or_a_gpu_it_is_stated(tmp_path, digits_run):
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed")
    with pytest.raises(MissingExtraError, match="tensorrt is not installed.*meets the rules of TensorRT's parser"):
        build_engine(with_cast_first(onnx.load(digits_run.bundle / "model.onnx")), tmp_path / "model.plan")


@pytest.mark.gpu
def test_an_engine_answers_as_the_bundle(digits_run, tmp_path):
    pytest.importorskip("tensorrt")
    from recog.verbs.export import export

    done = export(digits_run.folder, "tensorrt", out=tmp_path / "trt", seconds=0.01)
    assert done.gate.problem == ""
