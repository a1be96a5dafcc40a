"""A model repository of Triton Inference Server around the ONNX file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from recog.core.text import visible
from recog.runtime.predictor import BATCH_SIZE

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
VERSION = "1"


def model_name(text: str) -> str:
    """A name that may stand in an address and be a folder everywhere."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._") or "classifier"


def write_triton(
    folder: Path, name: str, *, image_shape: tuple[int, ...], class_names: Sequence[str], num_features: int
) -> Path:
    """Write NAME/config.pbtxt and NAME/labels.txt into `folder`; returns where model.onnx belongs.

    The configuration is a ModelConfig of protobuf/model_config.proto in github.com/triton-inference-server/common, in text form.
    """
    model = folder / name
    (model / VERSION).mkdir(parents=True)
    (model / LABELS).write_text("".join(f"{visible(label)}\n" for label in class_names), encoding="utf-8")
    config = f"""name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {BATCH_SIZE}
input [
  {{ name: "images" data_type: TYPE_UINT8 dims: [ {", ".join(map(str, image_shape))} ] }}
]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {len(class_names)} ] label_filename: "{LABELS}" }},
  {{ name: "features" data_type: TYPE_FP32 dims: [ {num_features} ] }}
]
dynamic_batching {{ }}
"""
    (model / CONFIG).write_text(config, encoding="utf-8")
    return model / VERSION / "model.onnx"
