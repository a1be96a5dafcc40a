"""The Open Inference Protocol, version 2, over REST: requests to images, answers to tensors, binary tensors included.

Source: KServe's open_inference_rest.yaml and Triton's extension_binary_data.md.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.records import convert_record, parse_json
from recog.runtime.prediction import Prediction
from recog.serve.bodies import RequestError, check_num_images
from recog.serve.config import ServeLimits
from recog.serve.messages import Image, Ready

HEADER_LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ("binary_tensor_data",)
DATATYPES = frozenset(
    ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
    + ("FP16", "BF16", "FP32", "FP64", "BYTES")
)
CLASS_MAP = "class_map"  # where the image counts for its label; only given where it is asked for
_PREFIX_BYTES = 4  # the length before each element of a binary BYTES tensor
_MAX_DIMS = 8

Parameters = dict[str, str | int | float | bool | None]


class InputTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: Any = None


class WantedOutput(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct):
    inputs: list[InputTensor]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[WantedOutput] | None = None


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A request that was understood: its images, and how its answer is wanted."""

    images: tuple[Image, ...]
    id: str | None
    outputs: Mapping[str, bool]  # name: whether as binary data


def metadata(name: str, ready: Ready) -> dict[str, Any]:
    height, width, channels = ready.image_shape
    return {
        "name": name,
        "versions": [ready.version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, height, width, channels]},
        ],
        "outputs": [
            {"name": output, "datatype": datatype, "shape": shape}
            for output, (datatype, shape) in _outputs(ready).items()
        ],
    }


def _outputs(ready: Ready) -> dict[str, tuple[str, list[int]]]:
    num_classes = len(ready.class_names)
    outputs = {"probabilities": ("FP32", [-1, num_classes])}
    outputs |= {
        "multiclass": {"label": ("BYTES", [-1])},
        "multilabel": {"predicted": ("BOOL", [-1, num_classes])},
    }[ready.task]
    if ready.has_sets:
        outputs["label_set"] = ("BOOL", [-1, num_classes])
    if ready.can_reject:
        outputs["is_unknown"] = ("BOOL", [-1])
    if (
        ready.map_size is not None and ready.task == "multiclass"
    ):  # several labels have a map each, as many as there are
        outputs[CLASS_MAP] = ("FP32", [-1, *ready.map_size])
    return outputs


def parse_inference(body: bytes, header_length: str | None, ready: Ready, limits: ServeLimits) -> Inference:
    """RequestError with status 400 where the request is not as the protocol or the model's metadata ask."""
    size = len(body) if header_length is None else _header_size(header_length, len(body))
    try:
        request = convert_record(
            parse_json(body[:size], where="the request", error=DataError),
            InferRequest,
            where="the request",
            error=DataError,
        )
    except DataError as error:
        raise RequestError(400, str(error).rstrip(".")) from None
    if request.id is not None and not request.id.isprintable():
        raise RequestError(400, "the id of the request holds characters that cannot be printed")
    raw = _binary_parts(request.inputs, body[size:])
    if len(request.inputs) != 1:
        raise RequestError(400, f"the request has {len(request.inputs)} inputs; expected one, 'image' or 'pixels'")
    tensor = request.inputs[0]
    _check_tensor(tensor, ready)
    check_num_images(tensor.shape[0], limits)
    read = _read_files if tensor.name == "image" else _read_pixels
    outputs = _wanted(request, ready)
    images = (msgspec.structs.replace(image, is_explained=CLASS_MAP in outputs) for image in read(tensor, raw[0]))
    return Inference(images=tuple(images), id=request.id, outputs=outputs)


def _header_size(text: str, num_bytes: int) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 18 or int(text) > num_bytes:
        raise RequestError(400, f"{HEADER_LENGTH} must be a number of bytes, up to the {num_bytes} of the body")
    return int(text)


def _binary_parts(inputs: Sequence[InputTensor], data: bytes) -> list[bytes | None]:
    """The binary data of each input; None where it is in the JSON."""
    parts: list[bytes | None] = []
    start = 0
    for tensor in inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            parts.append(None)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(data) - start:
            raise RequestError(400, f"binary_data_size of '{tensor.name[:40]}' does not fit the body")
        if tensor.data is not None:
            raise RequestError(400, f"input '{tensor.name[:40]}' has both data and binary_data_size")
        parts.append(data[start : start + size])
        start += size
    if start != len(data):
        raise RequestError(400, f"{len(data) - start} bytes of the body belong to no input")
    return parts


def _check_tensor(tensor: InputTensor, ready: Ready) -> None:
    if tensor.datatype not in DATATYPES:
        raise RequestError(400, f"datatype {tensor.datatype[:40]!r} is not one of {', '.join(sorted(DATATYPES))}")
    known = {row["name"]: row for row in metadata("", ready)["inputs"]}
    if tensor.name not in known:
        raise RequestError(400, f"there is no input '{tensor.name[:40]}'; expected {' or '.join(known)}")
    datatype, shape = known[tensor.name]["datatype"], known[tensor.name]["shape"]
    if tensor.datatype != datatype:
        raise RequestError(400, f"input '{tensor.name}' has datatype {tensor.datatype}; expected {datatype}")
    fits = len(tensor.shape) == len(shape) and all(
        (size >= 1 if wanted == -1 else size == wanted) for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise RequestError(
            400, f"input '{tensor.name}' has shape {tensor.shape[:_MAX_DIMS]}; expected {shape}, -1 being any number"
        )


def _read_files(tensor: InputTensor, raw: bytes | None) -> list[Image]:
    kind = (tensor.parameters or {}).get("content_type", "base64")
    if raw is None and kind != "base64":
        raise RequestError(400, "content_type of 'image' must be base64; other forms are sent as binary data")
    files = _base64_files(tensor.data) if raw is None else _split_bytes(raw, tensor.shape[0])
    if len(files) != tensor.shape[0]:
        raise RequestError(400, f"input 'image' has {len(files)} elements; its shape is {tensor.shape}")
    return [Image(data, f"image[{place}]") for place, data in enumerate(files)]


def _base64_files(data: object) -> list[bytes]:
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise RequestError(400, "data of 'image' must be a list of base64 texts, or binary data")
    try:
        return [base64.b64decode(text, validate=True) for text in data]
    except (binascii.Error, ValueError):
        raise RequestError(400, "data of 'image' is not base64; addresses and data: URLs are not read") from None


def _split_bytes(raw: bytes, count: int) -> list[bytes]:
    files: list[bytes] = []
    start = 0
    while start < len(raw) and len(files) <= count:
        end = start + _PREFIX_BYTES + int.from_bytes(raw[start : start + _PREFIX_BYTES], "little")
        if end > len(raw) or start + _PREFIX_BYTES > len(raw):
            raise RequestError(400, "an element of 'image' is longer than its binary data")
        files.append(raw[start + _PREFIX_BYTES : end])
        start = end
    return files


def _read_pixels(tensor: InputTensor, raw: bytes | None) -> list[Image]:
    size = math.prod(tensor.shape)
    pixels = np.frombuffer(raw, np.uint8) if raw is not None else _json_pixels(tensor.data, tensor.shape)
    if pixels.size != size:
        raise RequestError(400, f"input 'pixels' has {pixels.size} values; its shape {tensor.shape} needs {size}")
    return [
        Image(row.tobytes(), f"pixels[{place}]", True) for place, row in enumerate(pixels.reshape(tensor.shape[0], -1))
    ]


def _json_pixels(data: object, shape: Sequence[int]) -> NDArray[np.uint8]:
    try:
        values = np.array(data)
    except (ValueError, RecursionError):  # lists of unequal lengths, or deeper than arrays are
        values = np.array(None)
    if (
        values.dtype.kind != "i"
        or values.ndim not in (1, len(shape))
        or values.min(initial=0) < 0
        or values.max(initial=0) > 255
    ):
        raise RequestError(400, "data of 'pixels' must be whole numbers from 0 to 255, flat or nested as its shape")
    if values.ndim > 1 and values.shape != tuple(shape):
        raise RequestError(400, f"data of 'pixels' is nested as {list(values.shape)}; its shape is {list(shape)}")
    return values.astype(np.uint8).reshape(-1)


def _wanted(request: InferRequest, ready: Ready) -> dict[str, bool]:
    known = _outputs(ready)
    default = (request.parameters or {}).get("binary_data_output") is True
    wanted: dict[str, bool] = {}
    for output in request.outputs or [WantedOutput(name) for name in known if name != CLASS_MAP]:
        if output.name not in known:
            raise RequestError(400, f"there is no output '{output.name[:40]}'; expected {', '.join(known)}")
        if output.name in wanted:
            raise RequestError(400, f"output '{output.name}' is wanted twice")
        wanted[output.name] = (output.parameters or {}).get("binary_data", default) is True
    return wanted


def encode_inference(
    name: str, ready: Ready, inference: Inference, predictions: Sequence[Prediction]
) -> tuple[bytes, int | None]:
    """(body, length of its JSON where binary data follows it)."""
    table: dict[str, Any] = {"model_name": name, "model_version": ready.version}
    if inference.id is not None:
        table["id"] = inference.id
    table["parameters"] = {"digest": ready.digest}
    tails: list[bytes] = []
    rows: list[dict[str, Any]] = []
    known = _outputs(ready)
    for output, is_binary in inference.outputs.items():
        values = _values(output, predictions)
        row: dict[str, Any] = {"name": output, "datatype": known[output][0], "shape": list(values.shape)}
        if is_binary:
            tails.append(_binary(values))
            row["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            row["data"] = values.reshape(-1).tolist()
        rows.append(row)
    head = msgspec.json.encode({**table, "outputs": rows})
    return b"".join([head, *tails]), len(head) if tails else None


def _values(output: str, predictions: Sequence[Prediction]) -> NDArray[Any]:
    if output == "probabilities":
        return np.stack([p.probs for p in predictions]).astype(np.float32)
    if output == "label":
        return np.array([replace(p, is_unknown=None).label for p in predictions], object)
    if output == "is_unknown":
        return np.array([bool(p.is_unknown) for p in predictions])
    if output == "predicted":
        return np.stack([p.preds for p in predictions])
    if output == CLASS_MAP:
        return np.stack([p.maps[0] for p in predictions if p.maps is not None])
    return np.stack([p.in_set for p in predictions if p.in_set is not None])


def _binary(values: NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    texts = [text.encode() for text in values.tolist()]
    return b"".join(len(text).to_bytes(_PREFIX_BYTES, "little") + text for text in texts)
