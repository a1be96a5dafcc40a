"""What runs a network: uint8 images in, logits and features out. `ENGINES` lists the ways to run a bundle's ONNX file.

A file is refused by its graph, before an engine opens it.
"""

from __future__ import annotations

import difflib
import importlib
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from recog.bundle.manifest import MANIFEST, Manifest
from recog.core.errors import BundleError, ConfigError, ShapeError
from recog.core.files import open_regular
from recog.core.records import decode_names

CLASS_NAMES_KEY = "class_names"  # of the ONNX file's metadata: a JSON list
CLASS_WEIGHTS_KEY = (
    "class_weights"  # of a file with a feature map: the last layer's weights [K, D] in model.safetensors
)
FEATURE_MAP = "feature_map"  # an optional output
PIXELS_AT_ONCE = 1 << 18
REFERENCE_ENGINE = "onnxruntime"  # bundles are verified, calibrated and evaluated with it
MAX_ONNX_BYTES = 2**31 - 1  # protobuf's own limit
MAX_ONNX_FIELDS = 500_000  # half a second; a network of 2,000 operators has some 60,000

# recog exports networks without branches, loops, custom operators, functions or external files. A file that has one of them was
# not written by recog, and could hang, read other files or run other code. The protobuf fields are read as onnx.proto numbers
# them, so that answering does not need the `onnx` package; of the weights only the lengths are read.
# What to do with a field, by message and number: descend into the message of that name, or refuse for that reason.
# Fields that are not listed are passed over; as graphs within nodes are refused, nothing here is recursive.
_SUBGRAPH = "control flow (a graph within a node)"
_SPARSE = "sparse tensors"
_EXTERNAL = "weights in another file"
_DESCEND = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
_REFUSE = {
    "model": {20: "training information", 25: "functions of its own"},
    "graph": {15: _SPARSE},
    "node": {7: "operators outside the ONNX standard"},
    "attribute": {6: _SUBGRAPH, 11: _SUBGRAPH, 21: "functions of its own", 22: _SPARSE, 23: _SPARSE},
    "tensor": {13: _EXTERNAL, 14: _EXTERNAL},
}
_HARMLESS = {
    ("node", 7): (b"", b"ai.onnx"),
    ("tensor", 14): (0,),
}  # the standard's domain in both its spellings; weights in this file

_METADATA = ("model", 14)  # entries of key (1) and value (2)

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are not used by ONNX


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    logits: NDArray[np.float32]  # [B, K]
    features: NDArray[np.float32]  # [B, D]
    feature_map: NDArray[np.float32] | None = None  # [B, D, h, w], where it was asked for


class Engine(Protocol):
    """A network that is ready to run."""

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Run images uint8 [B, H, W, C], as Preprocess gives them."""
        ...


def images_at_once(image_size: tuple[int, int]) -> int:
    """How many images of (height, width) to pass through a network together: as fast as more, in little memory.

    The maps between the layers of a photo of 288 px take some 40 MB.
    """
    return min(32, max(4, PIXELS_AT_ONCE // (image_size[0] * image_size[1])))


class FileEngine(Engine, Protocol):
    """An Engine that was opened from an ONNX file, with the facts in its metadata."""

    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]  # (H, W, C)
    num_classes: int
    map_size: tuple[int, int] | None  # (h, w) of the feature map; None of a file without one
    class_weights: str  # the name of the weights [K, D] for the feature map, in model.safetensors

    def __call__(self, images: NDArray[np.uint8], *, feature_map: bool = False) -> Outputs:
        """As Engine; `feature_map` asks a file that has one for it."""
        ...


class Signature(NamedTuple):
    """What a graph takes and gives for each image."""

    image_shape: tuple[int, ...]  # (H, W, C)
    num_classes: int
    num_features: int
    map_size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """One way to run an ONNX file: a runtime, the precision of its arithmetic, and the options that differ from the default."""

    runtime: Literal["onnxruntime", "openvino"]
    precision: Literal["float32", "bfloat16"] = "float32"
    spinning: bool = True  # whether ONNX Runtime's idle threads wait actively for the next operator


ENGINES: Mapping[str, EngineSpec] = MappingProxyType(
    {
        REFERENCE_ENGINE: EngineSpec(runtime="onnxruntime"),
        "onnxruntime-no-spinning": EngineSpec(runtime="onnxruntime", spinning=False),
        "openvino": EngineSpec(runtime="openvino"),
        "openvino-bf16": EngineSpec(runtime="openvino", precision="bfloat16"),
    }
)


def check_engine_name(name: str) -> str:
    """`name`, if it is one of ENGINES; else ConfigError."""
    if name in ENGINES:
        return name
    near = difflib.get_close_matches(name, ENGINES, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"there is no engine '{name}'; expected auto, {', '.join(ENGINES)}.{hint}")


def open_engine(path: Path, name: str = REFERENCE_ENGINE, *, num_threads: int | None = None) -> FileEngine:
    """The ONNX file at `path`, ready to run by the engine `name` of ENGINES; threads: one per core by default.

    Raises BundleError for a file that is no network of recog's, ConfigError for an engine that does not run on this CPU, and
    ModuleNotFoundError where its library is not installed.
    """
    spec = ENGINES[check_engine_name(name)]
    # imported by name, as each library takes a part of a second to import
    module = importlib.import_module(f"recog.runtime.engines.{spec.runtime}_engine")
    return cast("FileEngine", module.open_file(path, spec, num_threads=num_threads))


def read_class_names(metadata: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """The class names in the metadata of the ONNX file at `path`."""
    if CLASS_NAMES_KEY not in metadata:
        raise BundleError(f"{path} has no class names in its metadata; it was not exported by recog.")
    return decode_names(metadata[CLASS_NAMES_KEY], where=f"{path}: {CLASS_NAMES_KEY} in its metadata")


def check_engine(engine: FileEngine, manifest: Manifest, path: Path) -> None:
    """BundleError where the ONNX file at `path` and the manifest of its bundle differ."""
    preprocess, names = manifest.preprocess, manifest.class_names
    pairs = {
        "class names": (engine.class_names, names),
        "number of classes": (engine.num_classes, len(names)),
        "image shape": (engine.image_shape, (*preprocess.image_size, preprocess.channels)),
    }
    for fact, (in_onnx, in_manifest) in pairs.items():
        if in_onnx != in_manifest:
            raise BundleError(
                f"{path.parent}: {path.name} and {MANIFEST} disagree on the {fact}: {in_onnx!r} and {in_manifest!r}; the "
                "bundle is not used."
            )


def check_images(images: NDArray[np.uint8], image_shape: tuple[int, ...]) -> None:
    """ShapeError unless `images` are uint8 [B, *image_shape]."""
    if images.shape[1:] != image_shape or images.dtype != np.uint8:
        raise ShapeError(
            f"images are {images.dtype} {images.shape}; expected uint8 (B, {', '.join(map(str, image_shape))})."
        )


def check_signature(inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]], path: Path) -> Signature:
    """The Signature of a graph whose inputs and outputs are (type, B, sizes...).

    A free B is a name or None. BundleError where it does not take images and give logits and features, as recog's do.
    """
    expected = {"images": ("uint8", 5), "logits": ("float32", 3), "features": ("float32", 3)}
    if FEATURE_MAP in outputs:
        expected[FEATURE_MAP] = ("float32", 5)
    values = {**inputs, **outputs}
    is_classifier = (
        list(inputs) == ["images"]
        and values.keys() == expected.keys()
        and all((value[0], len(value)) == expected[name] for name, value in values.items())
        and not any(isinstance(value[1], int) for value in values.values())
        and all(isinstance(size, int) and size > 0 for value in values.values() for size in value[2:])
        and outputs.get(FEATURE_MAP, outputs["features"])[2] == outputs["features"][2]
    )
    if not is_classifier:
        raise BundleError(
            f"{path} is not a model of recog's: it takes {dict(inputs)} and gives {dict(outputs)}; expected images uint8 "
            "[B, H, W, C], and logits [B, K], features [B, D] and, where there is one, feature_map [B, D, h, w] of 32-bit "
            "floats, for any B."
        )
    map_size = (outputs[FEATURE_MAP][3], outputs[FEATURE_MAP][4]) if FEATURE_MAP in outputs else None
    return Signature(tuple(inputs["images"][2:]), outputs["logits"][2], outputs["features"][2], map_size)


def output_names(signature: Signature, path: Path, *, feature_map: bool) -> list[str]:
    """The outputs to ask a graph for; ConfigError for a feature map that it does not have."""
    if feature_map and signature.map_size is None:
        raise ConfigError(f"{path} has no output {FEATURE_MAP}. Train with --set export.feature_map=true.")
    return ["logits", "features", *([FEATURE_MAP] if feature_map else [])]


def checked_outputs(
    values: Sequence[NDArray[np.float32]], signature: Signature, num_images: int, path: Path
) -> Outputs:
    """The Outputs of `values`, which are logits, features and, where it was asked for, the feature map.

    BundleError where a shape is not that of `signature` for `num_images`, or a number is NaN or infinite.
    """
    sizes = [(signature.num_classes,), (signature.num_features,), (signature.num_features, *(signature.map_size or ()))]
    expected = [(num_images, *size) for size in sizes[: len(values)]]
    shapes = [value.shape for value in values]
    if shapes != expected:
        raise BundleError(
            f"{path} answered {num_images} images with logits and features of the shapes {tuple(shapes)}; "
            f"expected {tuple(expected)}."
        )
    finite = [np.isfinite(value).all(axis=tuple(range(1, value.ndim))) for value in values]
    num_bad = int((~np.all(finite, axis=0)).sum())
    if num_bad:  # images are numbers from 0 to 255: it is the network's fault
        raise BundleError(
            f"{path} answered {num_bad} of {num_images} images with NaN or infinity; its weights are damaged."
        )
    return Outputs(logits=values[0], features=values[1], feature_map=values[2] if len(values) > 2 else None)


def check_graph(path: Path) -> dict[str, str]:
    """The metadata of the ONNX file at `path`; BundleError unless it has plain operators only and holds all its weights."""
    try:
        with open_regular(path, error=BundleError) as file:
            size = os.fstat(file.fileno()).st_size
            if not 0 < size <= MAX_ONNX_BYTES:
                raise ValueError(f"it has {size:,} bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _check_message(data)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise BundleError(f"{path} is not an ONNX file that recog exported: {error}.") from None


def _check_message(data: mmap.mmap) -> dict[str, str]:
    has_graph = False
    metadata: dict[str, str] = {}
    pending = [("model", 0, len(data))]
    num_fields = 0
    while pending:
        message, start, end = pending.pop()
        descend, refuse = _DESCEND[message], _REFUSE[message]
        for number, value in _fields(data, start, end):
            num_fields += 1
            if num_fields > MAX_ONNX_FIELDS:
                raise ValueError(f"it has more than {MAX_ONNX_FIELDS:,} fields")
            if (message, number) == _METADATA and isinstance(value, range):
                metadata |= [_entry(data, value)]
            elif number in descend and isinstance(value, range):
                has_graph = True
                pending.append((descend[number], value.start, value.stop))
            elif number in refuse:
                content = data[value.start : value.stop] if isinstance(value, range) else value
                if content not in _HARMLESS.get((message, number), ()):
                    raise ValueError(f"it holds {refuse[number]}")
    if not has_graph:
        raise ValueError("it holds no graph")
    return metadata


def _entry(data: mmap.mmap, place: range) -> tuple[str, str]:
    """Key and value of one entry of the metadata."""
    texts = {number: value for number, value in _fields(data, place.start, place.stop) if isinstance(value, range)}
    key, value = (data[texts[n].start : texts[n].stop].decode() if n in texts else "" for n in (1, 2))
    return key, value


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int | range]]:
    """Number and value of each field in data[start:end]: an integer, or where its bytes lie. ValueError where malformed."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire_type = (tag & 0xFFFFFFFF) >> 3, tag & 7
        value: int | range = 0
        if wire_type == _VARINT:
            value, at = _varint(data, at, end)
        elif wire_type == _BYTES:
            length, at = _varint(data, at, end)
            value = range(at, at + length)
            at += length
        elif wire_type in (_FIXED_64, _FIXED_32):
            at += 8 if wire_type == _FIXED_64 else 4
        else:
            raise ValueError("its bytes are not protobuf")
        if at > end or not number:
            raise ValueError("its bytes are not protobuf")
        yield number, value


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The integer at `at` and where the next byte lies: 7 bits a byte, the lowest first, the 8th set where more follow."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("its bytes are not protobuf")
