"""What runs a network: uint8 images in, logits and features out. `ENGINES` lists the ways to run a bundle's ONNX file."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError, ShapeError
from recog.core.records import decode_names

CLASS_NAMES_KEY = "class_names"  # of the ONNX file's metadata: a JSON list
PIXELS_AT_ONCE = 1 << 18
REFERENCE_ENGINE = "onnxruntime"  # bundles are verified, calibrated and evaluated with it


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    logits: NDArray[np.float32]  # [B, K]
    features: NDArray[np.float32]  # [B, D]


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


def check_images(images: NDArray[np.uint8], image_shape: tuple[int, ...]) -> None:
    """ShapeError unless `images` are uint8 [B, *image_shape]."""
    if images.shape[1:] != image_shape or images.dtype != np.uint8:
        raise ShapeError(
            f"images are {images.dtype} {images.shape}; expected uint8 (B, {', '.join(map(str, image_shape))})."
        )


def check_signature(
    inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]], path: Path
) -> tuple[tuple[int, ...], int, int]:
    """(image shape, number of classes, number of features) of a graph whose inputs and outputs are (type, B, sizes...).

    A free B is a name or None. BundleError where it does not take images and give logits and features, as recog's do.
    """
    expected = {"images": ("uint8", 5), "logits": ("float32", 3), "features": ("float32", 3)}
    values = {**inputs, **outputs}
    is_classifier = (
        list(inputs) == ["images"]
        and values.keys() == expected.keys()
        and all((value[0], len(value)) == expected[name] for name, value in values.items())
        and not any(isinstance(value[1], int) for value in values.values())
        and all(isinstance(size, int) and size > 0 for value in values.values() for size in value[2:])
    )
    if not is_classifier:
        raise BundleError(
            f"{path} is not a model of recog's: it takes {dict(inputs)} and gives {dict(outputs)}; expected images uint8 "
            "[B, H, W, C], and logits [B, K] and features [B, D] of 32-bit floats, for any B."
        )
    return tuple(inputs["images"][2:]), outputs["logits"][2], outputs["features"][2]


def checked_outputs(
    logits: NDArray[np.float32], features: NDArray[np.float32], *, expected: tuple[int, int, int], path: Path
) -> Outputs:
    """The Outputs for `expected` = (B, K, D); BundleError where their shapes differ or a number is NaN or infinite."""
    num_images, num_classes, num_features = expected
    shapes = (logits.shape, features.shape)
    if shapes != ((num_images, num_classes), (num_images, num_features)):
        raise BundleError(
            f"{path} answered {num_images} images with logits and features of the shapes {shapes}; "
            f"expected {((num_images, num_classes), (num_images, num_features))}."
        )
    num_bad = int((~np.isfinite(logits).all(axis=1) | ~np.isfinite(features).all(axis=1)).sum())
    if num_bad:  # images are numbers from 0 to 255: it is the network's fault
        raise BundleError(
            f"{path} answered {num_bad} of {num_images} images with NaN or infinity; its weights are damaged."
        )
    return Outputs(logits=logits, features=features)
