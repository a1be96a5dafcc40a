"""Post-training static quantisation of the ONNX file: 8-bit integers, weights per channel, biases corrected.

ONNX Runtime's quantiser chooses the ranges; benchmarks/export_int8.py has it beside NNCF. What it leaves is a shift of each
channel's mean, which is measured on training images and taken out of the bias: Nagel et al. (2019), arXiv:1906.04721, 4.2.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
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
DEEP = 4  # layers, from which the first stays in floats
_LAYERS = ("Conv", "Gemm", "MatMul")
# what stands between them and costs nothing in integers; means, roots and the rest of the head stay in floats
_BETWEEN = ("Clip", "Relu", "Add", "MaxPool")

Tensors = dict[str, onnx.TensorProto]


def quantize(network: Path, images: NDArray[np.uint8], target: Path, *, symmetric: bool = False) -> None:
    """Write the int8 form of the ONNX file `network` to `target`, with ranges from `images` uint8 [N, H, W, C].

    The layer that gives the logits stays in floats, and of a deeper network the first one too: with it 2 of 290 labels changed,
    without it 5, at the same size (benchmarks/results/export_int8.md). Activations are uint8, or with `symmetric` int8 around
    zero, as TensorRT requires. ConfigError where the network has no layer to quantise.
    """
    with tempfile.TemporaryDirectory(prefix="recog-") as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)  # folds norms into convolutions
        model = onnx.load(prepared)
        last = {node.name for node in model.graph.node if "logits" in node.output}
        layers = [node.name for node in model.graph.node if node.op_type in _LAYERS and node.name not in last]
        if not layers:
            raise ConfigError(
                "the network has no convolution or matrix product that could be quantised; leave --int8 out."
            )
        quantised = Path(folder) / "int8.onnx"
        quantize_static(
            str(prepared),
            str(quantised),
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_LAYERS, *_BETWEEN],
            nodes_to_exclude=[*sorted(last), *(layers[:1] if len(layers) >= DEEP else [])],
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": symmetric},
        )
        corrected = _correct_biases(model, onnx.load(quantised), images)
        kept = {entry.key: entry.value for entry in onnx.load(network, load_external_data=False).metadata_props}
        onnx.helper.set_model_props(corrected, kept)
        target.write_bytes(corrected.SerializeToString(deterministic=True))


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches = iter([images[i : i + BATCH] for i in range(0, len(images), BATCH)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _correct_biases(model: onnx.ModelProto, quantised: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """`quantised` with biases by which each convolution's channels have the means that they have in `model`."""
    biases = _quantised_biases(quantised)
    images = images[:NUM_CORRECTING]
    names = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv" and node.name in biases}
    expected = _channel_means(model, names, images)
    tensors: Tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    # one after the other: what a layer gives depends on the biases before it
    for node in [node for node in quantised.graph.node if node.name in names]:
        bias, scale = biases[node.name]
        found = _channel_means(quantised, {node.name: node.output[0]}, images)
        steps = np.round((expected[node.name] - found[node.name]) / onnx.numpy_helper.to_array(tensors[scale]))
        values = onnx.numpy_helper.to_array(tensors[bias]).astype(np.int64) + steps.astype(np.int64)
        bounds = np.iinfo(np.int32)
        changed = np.clip(values, bounds.min, bounds.max).astype(np.int32)
        tensors[bias].CopyFrom(onnx.numpy_helper.from_array(changed, bias))
    return quantised


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
    model: onnx.ModelProto, outputs: Mapping[str, str], images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """{layer: float64 [C], the mean of each channel} of the tensors `outputs` [B, C, H, W] over `images`."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs.values()
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    options.log_severity_level = 4
    # what is looked at must not be fused away
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: dict[str, Any] = dict.fromkeys(outputs, 0.0)
    for i in range(0, len(images), BATCH):
        batch = images[i : i + BATCH]
        maps = session.run(list(outputs.values()), {"images": batch})
        for layer, values in zip(outputs, maps, strict=True):
            sums[layer] = sums[layer] + values.mean(axis=(2, 3), dtype=np.float64).sum(axis=0)
    return {layer: total / len(images) for layer, total in sums.items()}


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
