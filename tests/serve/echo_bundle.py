"""A bundle whose answer is a function of the pixels, so that a reply that belongs to another request is told from its label."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from recog.bundle.reference import Reference, write_reference

NUM_TAGS = 256


def tagged_image(tag: int, size: int = 8) -> bytes:
    """A grey PNG of one level, `tag`; of other sizes, Preprocess leaves the level as it is."""
    file = io.BytesIO()
    Image.new("L", (size, size), tag).save(file, "PNG")
    return file.getvalue()


def write_echo_bundle(golden: Path, folder: Path, *, prefix: str = "t") -> Path:
    """As the bundle `golden` of 8 x 8 grey images, but with 256 classes: class t is most probable for an image of level t.

    logit t of the mean level m is -(m - t)^2 = 2 m t - t^2 - m^2, of which m^2 is left out as all classes share it.
    """
    shutil.copytree(golden, folder)
    names = [f"{prefix}{tag}" for tag in range(NUM_TAGS)]
    tags = np.arange(NUM_TAGS, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["features"]),
        helper.make_node("MatMul", ["features", "twice"], ["cross"]),
        helper.make_node("Sub", ["cross", "squares"], ["logits"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([1], np.int64),
        "twice": 2 * tags[None],
        "squares": tags**2,
    }
    graph = helper.make_graph(
        nodes,
        "echo",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 8, 8, 1])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", NUM_TAGS]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"class_names": json.dumps(names)})
    onnx.save(model, folder / "model.onnx")
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_classes": NUM_TAGS, "label_names": names}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "calibration.json").write_text(json.dumps({"method": "none"}))
    write_reference(folder, Reference(kind="none", images=(), probs=np.zeros((0, 0), np.float32)))
    (folder / "report.json").write_text(json.dumps({"format_version": 1, "evidence": "none", "reason": "synthetic"}))
    (folder / "features.safetensors").unlink(missing_ok=True)
    table = json.loads((folder / "recog.json").read_text())
    table["class_names"] = names
    files = sorted(path.name for path in folder.iterdir() if path.name != "recog.json")
    table["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    del table["digest"]
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    table["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "recog.json").write_text(json.dumps(table))
    return folder
