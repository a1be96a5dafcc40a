"""A small ONNX file of recog's form, for tests of engines."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT


def write_model(path, *, image_shape=("B", 2, 2, 1), kind=UINT8, metadata=None, names=("images", "logits", "features")):
    """A graph by hand: features = the pixels as floats [B, 4], logits = features[:, :3]."""
    images, logits, features = names
    nodes = [
        helper.make_node("Cast", [images], ["pixels"], to=FLOAT),
        helper.make_node("Flatten", ["pixels"], [features]),
        helper.make_node("Slice", [features, "zero", "three", "one"], [logits]),
    ]
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info(images, kind, image_shape)],
        [
            helper.make_tensor_value_info(logits, FLOAT, ("B", 3)),
            helper.make_tensor_value_info(features, FLOAT, ("B", 4)),
        ],
        [numpy_helper.from_array(np.array([i]), name) for i, name in ((0, "zero"), (1, "one"), (3, "three"))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in ({"class_names": json.dumps(["a", "b", "c"])} if metadata is None else metadata).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    return path
