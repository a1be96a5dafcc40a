"""What runs a network: uint8 images in, logits and features out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from recog.core.errors import BundleError
from recog.core.hardware import num_cores

CLASS_NAMES_KEY = "class_names"  # of the ONNX file's metadata: a JSON list


@dataclass(frozen=True, kw_only=True)
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
        options.intra_op_num_threads = num_threads or num_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; its warnings are about its own optimiser
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class below Exception
            raise BundleError(f"{path} cannot be loaded by ONNX Runtime: {error}") from None
        inputs = {value.name: (value.type, *value.shape) for value in self._session.get_inputs()}
        outputs = {value.name: (value.type, *value.shape) for value in self._session.get_outputs()}
        if (
            [(name, len(kind), kind[0]) for name, kind in inputs.items()] != [("images", 5, "tensor(uint8)")]
            or not {"logits", "features"} <= set(outputs)
            or any(kind[0] != "tensor(float)" or len(kind) != 3 for kind in outputs.values())
        ):
            raise BundleError(
                f"{path} is not a model of recog's: it takes {inputs} and gives {outputs}; expected images uint8 "
                "[B, H, W, C], and logits [B, K] and features [B, D] of 32-bit floats."
            )
        self.image_shape = inputs["images"][2:]
        self.num_classes = outputs["logits"][2]
        self.class_names = _class_names(self._session.get_modelmeta().custom_metadata_map, path)

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        logits, features = self._session.run(["logits", "features"], {"images": images})
        return Outputs(logits=logits, features=features)


def _class_names(metadata: Mapping[str, str], path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(metadata.get(CLASS_NAMES_KEY, "null"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BundleError(f"{path} does not say its class names in its metadata; it was not exported by recog.")
    return tuple(names)
