"""OpenVINO on the CPU, always in a stated precision: left alone, it chooses bfloat16 where the CPU has it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError, one_line
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


def _import_without_telemetry() -> ModuleType:
    """openvino; on import it would send an event and write an identifier into the user's home, unless its sender is missing."""
    name = "openvino_telemetry"
    if name in sys.modules or "openvino" in sys.modules:  # the user imported it
        return importlib.import_module("openvino")
    sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail, for which openvino has a stub
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[name]


openvino = _import_without_telemetry()

_TYPES = {"u8": "uint8", "f32": "float32"}
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEngine:
    """OpenVINO on the CPU, in float32 or bfloat16; not thread-safe.

    `class_names` comes from the file's metadata; `image_shape` (H, W, C) and `num_classes` what its graph takes and gives.
    """

    def __init__(self, path: Path, *, precision: str = "float32", num_threads: int | None = None) -> None:
        num_threads = num_cores() if num_threads is None else check_num_threads(num_threads)
        metadata = check_graph(path)
        self.class_names = read_class_names(metadata, path)
        self.class_weights = metadata.get(CLASS_WEIGHTS_KEY, "")
        core = openvino.Core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError("this CPU has no bfloat16 arithmetic; choose the engine openvino or onnxruntime.")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": num_threads,
        }
        try:
            with _signal_stack_restored():
                model = core.read_model(str(path))
                self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except Exception as error:  # noqa: BLE001  openvino raises RuntimeError and its subclasses for everything
            raise BundleError(f"{path} cannot be loaded by OpenVINO: {one_line(error)}") from None
        self._path = path
        self._signature = check_signature(
            {port.any_name: _signature(port) for port in model.inputs},
            {port.any_name: _signature(port) for port in model.outputs},
            path,
        )
        self.image_shape, self.num_classes, _, self.map_size = self._signature

    def __call__(self, images: NDArray[np.uint8], *, feature_map: bool = False) -> Outputs:
        check_images(images, self.image_shape)
        names = output_names(self._signature, self._path, feature_map=feature_map)
        try:
            self._request.infer({"images": np.ascontiguousarray(images)})
            values = [self._request.get_tensor(name).data.copy() for name in names]
        except Exception as error:  # noqa: BLE001  as above
            raise BundleError(f"{self._path} failed on {len(images)} images: {one_line(error)}") from None
        return checked_outputs(values, self._signature, len(images), self._path)


@contextlib.contextmanager
def _signal_stack_restored() -> Iterator[None]:
    """Restore this thread's stack for signal handlers after the block.

    Compiling sets one (OpenVINO 2026.4, Linux) that is freed with the model, after which any signal ends the process by a
    segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    is_known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if is_known:
            libc.sigaltstack(ctypes.byref(before), None)


class _SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def open_file(path: Path, spec: EngineSpec, *, num_threads: int | None) -> OpenVinoEngine:
    return OpenVinoEngine(path, precision=spec.precision, num_threads=num_threads)


def _signature(port: Any) -> tuple[str | int | None, ...]:
    """(type, sizes...) of an openvino.Output, where a size that is not fixed is None."""
    kind = port.element_type.get_type_name()
    sizes = (size.get_length() if size.is_static else None for size in port.partial_shape)
    return (_TYPES.get(kind, kind), *sizes)
