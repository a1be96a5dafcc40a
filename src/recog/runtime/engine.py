"""What runs a network: uint8 images in, logits and features out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from recog.core.errors import BundleError, ShapeError, one_line
from recog.core.hardware import check_num_threads, num_cores
from recog.core.records import decode_names
from recog.runtime.onnx_graph import check_graph

CLASS_NAMES_KEY = "class_names"  # of the ONNX file's metadata: a JSON list


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    logits: NDArray[np.float32]  # [B, K]
    features: NDArray[np.float32]  # [B, D]


class Engine(Protocol):
    """A network that is ready to run."""

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Run images uint8 [B, H, W, C], as Preprocess gives them."""
        ...


class OnnxEngine:
    """ONNX Runtime on the CPU.

    `class_names` is what the file's own metadata says; `image_shape` (H, W, C) and `num_classes` what its graph takes and gives.
    """

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores() if num_threads is None else check_num_threads(num_threads)
        check_graph(path)
        options.inter_op_num_threads = 1
        options.log_severity_level = (
            4  # none of its own lines: what fails is raised, and its warnings are about its optimiser
        )
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class below Exception
            raise BundleError(f"{path} cannot be loaded by ONNX Runtime: {one_line(error)}") from None
        self._path = path
        inputs = {value.name: (value.type, *value.shape) for value in self._session.get_inputs()}
        outputs = {value.name: (value.type, *value.shape) for value in self._session.get_outputs()}
        if not _is_classifier(inputs, outputs):
            raise BundleError(
                f"{path} is not a model of recog's: it takes {inputs} and gives {outputs}; expected images uint8 "
                "[B, H, W, C], and logits [B, K] and features [B, D] of 32-bit floats, for any B."
            )
        self.image_shape: tuple[int, ...] = inputs["images"][2:]
        self.num_classes: int = outputs["logits"][2]
        self._num_features: int = outputs["features"][2]
        self.class_names = _class_names(self._session.get_modelmeta().custom_metadata_map, path)

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8:
            raise ShapeError(
                f"images are {images.dtype} {images.shape}; expected uint8 (B, {', '.join(map(str, self.image_shape))})."
            )
        try:
            logits, features = self._session.run(["logits", "features"], {"images": images})
        except Exception as error:  # noqa: BLE001  as above
            raise BundleError(f"{self._path} failed on {len(images)} images: {one_line(error)}") from None
        shapes = (logits.shape, features.shape)
        expected = ((len(images), self.num_classes), (len(images), self._num_features))
        if shapes != expected:
            raise BundleError(
                f"{self._path} answered {len(images)} images with logits and features of the shapes {shapes}; "
                f"expected {expected}."
            )
        num_bad = int((~np.isfinite(logits).all(axis=1) | ~np.isfinite(features).all(axis=1)).sum())
        if num_bad:  # images are numbers from 0 to 255: it is the network's fault
            raise BundleError(
                f"{self._path} answered {num_bad} of {len(images)} images with NaN or infinity; its weights are damaged."
            )
        return Outputs(logits=logits, features=features)


def _is_classifier(inputs: Mapping[str, tuple[Any, ...]], outputs: Mapping[str, tuple[Any, ...]]) -> bool:
    """Whether a graph takes images and gives logits and features; each as (type, B, sizes...), where B is a name or None."""
    expected = {"images": ("tensor(uint8)", 5), "logits": ("tensor(float)", 3), "features": ("tensor(float)", 3)}
    values = {**inputs, **outputs}
    return (
        list(inputs) == ["images"]
        and values.keys() == expected.keys()
        and all((value[0], len(value)) == expected[name] for name, value in values.items())
        and not any(isinstance(value[1], int) for value in values.values())
        and all(isinstance(size, int) and size > 0 for value in values.values() for size in value[2:])
    )


def _class_names(metadata: Mapping[str, str], path: Path) -> tuple[str, ...]:
    if CLASS_NAMES_KEY not in metadata:
        raise BundleError(f"{path} has no class names in its metadata; it was not exported by recog.")
    return decode_names(metadata[CLASS_NAMES_KEY], where=f"{path}: {CLASS_NAMES_KEY} in its metadata")
