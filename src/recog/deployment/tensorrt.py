"""A TensorRT engine of the ONNX file, and the rules of its parser that can be checked without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from recog.core.errors import ConfigError, MissingExtraError
from recog.runtime.engine import FEATURE_MAP
from recog.runtime.predictor import BATCH_SIZE

MIN_OPSET, MAX_OPSET = 9, 25  # of TensorRT 11: docs.nvidia.com/deeplearning/tensorrt, ONNX Opset Guide
# github.com/onnx/onnx-tensorrt, docs/operators.md: those of image classifiers, for floats unless stated below
_OPERATORS = frozenset(
    """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv DepthToSpace DequantizeLinear Div
    Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less Log LogSoftmax
    MatMul Max MaxPool Mean Min Mod Mul Neg Not PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceSum Relu Reshape Resize Selu Shape Sigmoid Sin Cos Size Slice Softmax Softplus SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905  a list of 80 short words
)
_FLOAT_INPUT = "its uint8 input goes into {}; TensorRT only casts uint8"


def with_cast_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, whose uint8 input is cast before anything else: TensorRT takes uint8 only so."""
    graph, images = model.graph, model.graph.input[0].name
    for value in [value for value in graph.output if value.name == FEATURE_MAP]:
        graph.output.remove(value)  # predict.py has no use for it
    casted = f"{images}_float"
    for node in graph.node:
        node.input[:] = [casted if name == images else name for name in node.input]
    cast = onnx.helper.make_node("Cast", [images], [casted], name=casted, to=onnx.TensorProto.FLOAT)
    graph.node.insert(0, cast)
    del graph.value_info[:]  # types of what was uint8 before
    onnx.checker.check_model(model, full_check=True)
    return model


def check_rules(model: onnx.ModelProto) -> None:
    """ConfigError with every rule of TensorRT's ONNX parser that the network breaks."""
    broken = list(dict.fromkeys(_broken_rules(model)))
    if broken:
        raise ConfigError(
            f"TensorRT does not take this network: {'; '.join(broken)}. Export it with --to onnx instead."
        )


def _broken_rules(model: onnx.ModelProto) -> Iterator[str]:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if not MIN_OPSET <= opset <= MAX_OPSET:
        yield f"its opset is {opset}, not {MIN_OPSET} to {MAX_OPSET}"
    bytes_inputs = {
        value.name for value in model.graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    }
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in tensors.values():
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            yield f"{tensor.name} holds 64-bit floats"
    for node in model.graph.node:
        if node.op_type not in _OPERATORS:
            yield f"the operator {node.op_type} is not supported"
        if node.op_type != "Cast" and bytes_inputs.intersection(node.input):
            yield _FLOAT_INPUT.format(node.op_type)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from _broken_by_quantisation(node, tensors)


def _broken_by_quantisation(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> Iterator[str]:
    """Int8 with zero points of 0 only; biases are int32 there."""
    zero_point = tensors.get(node.input[2]) if len(node.input) > 2 else None
    if zero_point is None:
        yield f"{node.name} has no constant int8 zero point"
    elif zero_point.data_type not in (onnx.TensorProto.INT8, onnx.TensorProto.INT32):
        yield f"{node.name} quantises to {onnx.TensorProto.DataType.Name(zero_point.data_type)}, not INT8"
    elif onnx.numpy_helper.to_array(zero_point).any():
        yield f"{node.name} has a zero point other than 0"


def build_engine(model: onnx.ModelProto, plan: Path) -> None:
    """Build the network into the TensorRT engine `plan`, for batches of 1 to 32 on this machine's GPU.

    Float layers compute in float32 without TF32, so that the answers stay the bundle's. MissingExtraError where TensorRT or a
    GPU is missing, ConfigError where TensorRT refuses the network.
    """
    try:
        import tensorrt
    except ModuleNotFoundError:
        raise _missing("the package tensorrt is not installed (pip install tensorrt)") from None
    import torch

    if not torch.cuda.is_available():
        raise _missing("no CUDA device was found")
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.WARNING))
    flag = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # types as the file has them
    definition = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = tensorrt.OnnxParser(definition, tensorrt.Logger(tensorrt.Logger.WARNING))
    if not parser.parse(model.SerializeToString()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ConfigError(f"TensorRT does not take this network: {reasons[:500]}. Export it with --to onnx instead.")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    image = tuple(definition.get_input(0).shape)[1:]
    profile.set_shape("images", (1, *image), (min(8, BATCH_SIZE), *image), (BATCH_SIZE, *image))
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(definition, config)
    if built is None:
        raise ConfigError("TensorRT built no engine of this network; its log above tells why.")
    plan.write_bytes(bytes(built))


def _missing(what: str) -> MissingExtraError:
    return MissingExtraError(
        f"{what}, so no TensorRT engine can be built here. The network meets the rules of TensorRT's parser that need no GPU. "
        "Run this command again where an NVIDIA GPU and TensorRT are."
    )
