"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from recog.core.errors import BundleError, one_line
from recog.core.hardware import check_num_threads, num_cores
from recog.runtime.engine import (
    CLASS_WEIGHTS_KEY,
    EngineSpec,
    Outputs,
    check_graph,
    check_images,
    check_signature,
    checked_outputs,
    output_names,
    read_class_names,
)

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxEngine:
    """ONNX Runtime on the CPU, in float32.

    `class_names` comes from the file's metadata; `image_shape` (H, W, C) and `num_classes` what its graph takes and gives.
    """

    def __init__(self, path: Path, *, num_threads: int | None = None, spinning: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores() if num_threads is None else check_num_threads(num_threads)
        metadata = check_graph(path)
        self.class_names = read_class_names(metadata, path)
        self.class_weights = metadata.get(CLASS_WEIGHTS_KEY, "")
        options.inter_op_num_threads = 1
        # planning memory by the sizes of a batch doubles it, as what the first batch was given is kept; it saves no time
        options.enable_mem_pattern = False
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # none of its own lines: what fails is raised, and its warnings are about its optimiser
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  onnxruntime's errors share no base class below Exception
            raise BundleError(f"{path} cannot be loaded by ONNX Runtime: {one_line(error)}") from None
        self._path = path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._signature = check_signature(
            {value.name: (_TYPES.get(value.type, value.type), *value.shape) for value in inputs},
            {value.name: (_TYPES.get(value.type, value.type), *value.shape) for value in outputs},
            path,
        )
        self.image_shape, self.num_classes, _, self.map_size = self._signature

    def __call__(self, images: NDArray[np.uint8], *, feature_map: bool = False) -> Outputs:
        check_images(images, self.image_shape)
        names = output_names(self._signature, self._path, feature_map=feature_map)
        try:
            values = self._session.run(names, {"images": images})
        except Exception as error:  # noqa: BLE001  as above
            raise BundleError(f"{self._path} failed on {len(images)} images: {one_line(error)}") from None
        return checked_outputs(values, self._signature, len(images), self._path)


def open_file(path: Path, spec: EngineSpec, *, num_threads: int | None) -> OnnxEngine:
    return OnnxEngine(path, num_threads=num_threads, spinning=spec.spinning)
