"""What runs a network: uint8 images in, logits and features out."""

from __future__ import annotations

import json
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
    """ONNX Runtime on the CPU; `class_names` is what the file's own metadata says."""

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or num_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; its warnings are about its own optimiser
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class below Exception
            raise BundleError(f"{path} cannot be loaded by ONNX Runtime: {error}") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.class_names: tuple[str, ...] = tuple(json.loads(metadata.get(CLASS_NAMES_KEY, "[]")))

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        logits, features = self._session.run(["logits", "features"], {"images": images})
        return Outputs(logits=logits, features=features)
