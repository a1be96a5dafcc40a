"""Post-training static quantisation of the ONNX file: 8-bit integers, weights per channel, biases corrected.

ONNX Runtime's quantiser chooses the ranges; benchmarks/export_int8.py has it beside NNCF. What it leaves is a shift of each
channel's mean, which is measured on training images and taken out of the bias: Nagel et al. (2019), arXiv:1906.04721, 4.2.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from recog.core.errors import ConfigError
from recog.core.hardware import num_cores

BATCH = 8  # images at once; every range is a minimum and maximum over batches
NUM_CORRECTING = 32  # images that biases are corrected on; each layer needs a pass of its own
NUM_SENSITIVITY = 8  # images that the effect of a layer's rounded weights is measured on
SENSITIVE_SHARE = 0.02  # of the changes by all layers: one from here on stays in floats
MAX_FLOAT_SHARE = 0.0085  # of all weights that stay in floats for it
_LAYERS = ("Conv", "Gemm", "MatMul")
_MEANS = ("ReduceMean", "GlobalAveragePool")
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
# what stands between them and costs nothing in integers; means, roots and the rest of the head stay in floats
_BETWEEN = ("Clip", "Relu", "Add", "MaxPool")

Tensors = dict[str, onnx.TensorProto]


def quantize(
    network: Path,
    images: NDArray[np.uint8],
    target: Path,
    *,
    runtime: str = "onnxruntime",
    num_threads: int | None = None,
) -> tuple[str, ...]:
    """Write the int8 form of the ONNX file `network` to `target`, with ranges from `images` uint8 [N, H, W, C].

    The layer that gives the logits stays in floats. Beside it either the first layer does, or the small layers whose rounded
    weights change the features most: that of the two forms whose logits differ less from the network's on `images`, in mean
    square. benchmarks/results/export_int8.md has which. Returns the names of the layers in floats.

    Activations are uint8; for the `runtime` tensorrt, which requires it, int8 around zero. For openvino means over a map are of
    its float values, as OpenVINO rounds means of integers. ConfigError where the network has no layer to quantise.
    """
    threads = num_threads or num_cores()
    with tempfile.TemporaryDirectory(prefix="recog-") as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)  # folds norms into convolutions
        model = onnx.load(prepared)
        last = {node.name for node in model.graph.node if "logits" in node.output}
        if all(node.op_type not in _LAYERS or node.name in last for node in model.graph.node):
            raise ConfigError(
                "the network has no convolution or matrix product that could be quantised; leave --int8 out."
            )
        forms = {
            floats: _quantised(prepared, model, last | floats, images, runtime=runtime, num_threads=threads)
            for floats in dict.fromkeys((_first_layer(model), _sensitive_layers(model, images, threads)))
        }
    expected = _logits(model, images, threads)
    floats, result = min(forms.items(), key=lambda form: _mean_square(_logits(form[1], images, threads) - expected))
    kept = {entry.key: entry.value for entry in onnx.load(network, load_external_data=False).metadata_props}
    onnx.helper.set_model_props(result, kept)
    target.write_bytes(result.SerializeToString(deterministic=True))
    return tuple(sorted(last | floats))


def _quantised(  # noqa: PLR0913  one form of a network
    prepared: Path,
    model: onnx.ModelProto,
    floats: Set[str],
    images: NDArray[np.uint8],
    *,
    runtime: str,
    num_threads: int,
) -> onnx.ModelProto:
    """The network `model` of the file `prepared` with all layers but `floats` in integers, and biases corrected."""
    symmetric, for_openvino = runtime == "tensorrt", runtime == "openvino"
    quantised = prepared.with_name("int8.onnx")
    quantize_static(
        str(prepared),
        str(quantised),
        _Batches(images),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*_LAYERS, *_BETWEEN],
        nodes_to_exclude=sorted(floats),
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"ActivationSymmetric": symmetric, "QDQKeepRemovableActivations": for_openvino},
    )
    result = onnx.load(quantised)
    if for_openvino:
        _use_float_means(result)
    _share_zero_points(result)
    result = _correct_biases(model, result, images, num_threads)
    if for_openvino:
        _use_float_biases(result)
    return result


def _logits(model: onnx.ModelProto, images: NDArray[np.uint8], num_threads: int) -> NDArray[np.float32]:
    run = _opened(model, ["logits"], num_threads)
    return np.concatenate([run(images[i : i + BATCH])[0] for i in range(0, len(images), BATCH)])


def _mean_square(values: NDArray[np.float32]) -> float:
    return float((values**2).mean(dtype=np.float64))


def _first_layer(model: onnx.ModelProto) -> frozenset[str]:
    """The name of the first convolution, where it has at most MAX_FLOAT_SHARE of the weights of all."""
    sizes = _weights_of_convolutions(model)
    first = next(iter(sizes), None)
    return frozenset({first} if first is not None and sizes[first] <= MAX_FLOAT_SHARE * sum(sizes.values()) else ())


def _weights_of_convolutions(model: onnx.ModelProto) -> dict[str, int]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.name: math.prod(tensors[node.input[1]].dims)
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in tensors
    }


def _sensitive_layers(model: onnx.ModelProto, images: NDArray[np.uint8], num_threads: int) -> frozenset[str]:
    """Names of the convolutions that stay in floats: their rounded weights change the features most, and they are small.

    Each alone has its weights rounded, and the squared change of the features tells. In networks with depthwise convolutions a
    few layers of some hundred weights cause most of it.
    """
    images = images[:NUM_SENSITIVITY]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = {
        node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in tensors
    }
    expected = _opened(model, ["features"], num_threads)(images)[0]
    errors: dict[str, float] = {}
    for name, weight in layers.items():
        exact = onnx.TensorProto()
        exact.CopyFrom(tensors[weight])
        tensors[weight].CopyFrom(onnx.numpy_helper.from_array(_rounded(onnx.numpy_helper.to_array(exact)), weight))
        found = _opened(model, ["features"], num_threads)(images)[0]
        tensors[weight].CopyFrom(exact)
        errors[name] = _mean_square(found - expected)
    sizes = _weights_of_convolutions(model)
    left, chosen = MAX_FLOAT_SHARE * sum(sizes.values()), set()
    for name in sorted(layers, key=lambda name: -errors[name]):
        if errors[name] >= SENSITIVE_SHARE * sum(errors.values()) and sizes[name] <= left:
            chosen.add(name)
            left -= sizes[name]
    return frozenset(chosen)


def _rounded(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights [C, ...] as 8-bit integers around zero hold them, each channel by its own scale."""
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1)
    rounded: NDArray[np.float32] = (np.round(weights / scale) * scale).astype(np.float32)
    return rounded


def _use_float_means(model: onnx.ModelProto) -> None:
    """Let means read the float tensor that is quantised for others."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        dequantise = made_by.get(node.input[0]) if node.op_type in _MEANS else None
        quantise = made_by.get(dequantise.input[0]) if dequantise and dequantise.op_type == "DequantizeLinear" else None
        if quantise is not None and quantise.op_type == "QuantizeLinear":
            node.input[0] = quantise.input[0]


def _share_zero_points(model: onnx.ModelProto) -> None:
    """One tensor for all zero points that are equal: with one per channel they are a twentieth of a small network."""
    first: dict[bytes, str] = {}
    names: dict[str, str] = {}
    zero_points = {node.input[2] for node in model.graph.node if node.op_type in _QUANTISING and len(node.input) > 2}
    kept = []
    for tensor in model.graph.initializer:
        if tensor.name in zero_points:
            content = onnx.TensorProto()
            content.CopyFrom(tensor)
            content.name = ""
            names[tensor.name] = first.setdefault(content.SerializeToString(), tensor.name)
        if names.get(tensor.name, tensor.name) == tensor.name:
            kept.append(tensor)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches = iter([images[i : i + BATCH] for i in range(0, len(images), BATCH)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _correct_biases(
    model: onnx.ModelProto, quantised: onnx.ModelProto, images: NDArray[np.uint8], num_threads: int
) -> onnx.ModelProto:
    """`quantised` with biases by which each convolution's channels have the means that they have in `model`."""
    biases = _quantised_biases(quantised)
    images = images[:NUM_CORRECTING]
    names = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv" and node.name in biases}
    if not names:
        return quantised
    expected = _channel_means(model, names, images, num_threads)
    tensors: Tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    # one after the other: what a layer gives depends on the biases before it
    for node in [node for node in quantised.graph.node if node.name in names]:
        bias, scale = biases[node.name]
        found = _channel_means(quantised, {node.name: node.output[0]}, images, num_threads)
        steps = np.round((expected[node.name] - found[node.name]) / onnx.numpy_helper.to_array(tensors[scale]))
        values = onnx.numpy_helper.to_array(tensors[bias]).astype(np.int64) + steps.astype(np.int64)
        bounds = np.iinfo(np.int32)
        changed = np.clip(values, bounds.min, bounds.max).astype(np.int32)
        tensors[bias].CopyFrom(onnx.numpy_helper.from_array(changed, bias))
    return quantised


def _use_float_biases(model: onnx.ModelProto) -> None:
    """Floats in place of biases with a scale of their own, which OpenVINO computes in floats anyway."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = _quantised_biases(model)
    for node in model.graph.node:
        if node.name in found:
            bias, scale = (onnx.numpy_helper.to_array(tensors[name]) for name in found[node.name])
            node.input[2] = f"{node.name}_bias"
            values = (bias * scale).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, node.input[2]))
    used = {name for node in model.graph.node for name in node.input}
    for node in [
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.output[0] not in used
    ]:
        model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)


def _quantised_biases(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """{convolution: (its int32 bias, the scale of it)} where the bias belongs to this convolution alone."""
    given = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    tensors = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        source = given.get(node.input[2]) if node.op_type == "Conv" and len(node.input) > 2 else None
        if source is not None and {source.input[0], source.input[1]} <= tensors:
            found[node.name] = (source.input[0], source.input[1])
    biases = [bias for bias, _ in found.values()]
    return {layer: pair for layer, pair in found.items() if biases.count(pair[0]) == 1}


def _channel_means(
    model: onnx.ModelProto, outputs: Mapping[str, str], images: NDArray[np.uint8], num_threads: int
) -> dict[str, NDArray[np.float64]]:
    """{layer: float64 [C], the mean of each channel} of the tensors `outputs` [B, C, H, W] over `images`."""
    run = _opened(model, list(outputs.values()), num_threads)
    sums: dict[str, Any] = dict.fromkeys(outputs, 0.0)
    for i in range(0, len(images), BATCH):
        for layer, values in zip(outputs, run(images[i : i + BATCH]), strict=True):
            sums[layer] = sums[layer] + values.mean(axis=(2, 3), dtype=np.float64).sum(axis=0)
    return {layer: total / len(images) for layer, total in sums.items()}


def _opened(
    model: onnx.ModelProto, outputs: Sequence[str], num_threads: int
) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """From images uint8 [B, H, W, C] to these tensors of the network."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4
    # what is looked at must not be fused away
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: [np.asarray(found) for found in session.run(list(outputs), {"images": images})]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice on its own steps to the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
