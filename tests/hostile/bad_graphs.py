"""Kind 43: ONNX files that recog would not write. Each takes images [B, 2, 2, 1] and means harm or is broken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

UINT8, FLOAT, INT64, BOOL = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@dataclass(frozen=True, kw_only=True)
class Graph:
    """features = the pixels as floats [B, 4], logits = features[:, :3]; what is given is added or put in its place."""

    image_shape: tuple[int | str, ...] = ("B", 2, 2, 1)
    kind: int = UINT8
    names: tuple[str, str, str] = ("images", "logits", "features")
    logits_shape: tuple[int | str, ...] = ("B", 3)
    features_shape: tuple[int | str, ...] = ("B", 4)
    more_nodes: tuple[onnx.NodeProto, ...] = ()
    constants: dict[str, list[int]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=lambda: {"class_names": json.dumps(["a", "b", "c"])})
    opsets: tuple[tuple[str, int], ...] = (("", 17),)

    def build(self) -> onnx.ModelProto:
        images, logits, features = self.names
        nodes = [
            helper.make_node("Cast", [images], ["pixels"], to=FLOAT),
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("Slice", ["flat", "zero", "three", "one"], ["first"]),
            *self.more_nodes,
        ]
        made = {name for node in self.more_nodes for name in node.output}
        for source, output in (("flat", features), ("first", logits)):
            if output not in made:
                nodes.append(helper.make_node("Identity", [source], [output]))
        constants = {"zero": [0], "one": [1], "three": [3]} | self.constants
        graph = helper.make_graph(
            nodes,
            "by hand",
            [helper.make_tensor_value_info(images, self.kind, self.image_shape)],
            [
                helper.make_tensor_value_info(logits, FLOAT, self.logits_shape),
                helper.make_tensor_value_info(features, FLOAT, self.features_shape),
            ],
            [numpy_helper.from_array(np.array(values, dtype=np.int64), name) for name, values in constants.items()],
        )
        opsets = [helper.make_opsetid(*opset) for opset in self.opsets]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        for key, value in self.metadata.items():
            model.metadata_props.add(key=key, value=value)
        return model


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    data: bytes
    refused: str  # a pattern of the BundleError's message
    is_loaded: bool = False  # whether it is found out only when images are given


def _branch(name: str, kind: int = FLOAT) -> onnx.GraphProto:
    node = helper.make_node("Identity", ["first"], [name])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, kind, None)])


def _endless_loop() -> onnx.NodeProto:
    nodes = [helper.make_node("Identity", ["on"], ["on_again"]), helper.make_node("Identity", ["state"], ["next"])]
    body = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(n, k, s) for n, k, s in (("i", INT64, []), ("on", BOOL, []))]
        + [helper.make_tensor_value_info("state", FLOAT, None)],
        [helper.make_tensor_value_info("on_again", BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)],
    )
    return helper.make_node("Loop", ["", "", "first"], ["logits"], body=body)


def _control_flow() -> list[Case]:
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    branches = {"then_branch": _branch("then"), "else_branch": _branch("else")}
    scan_body = helper.make_graph(
        [helper.make_node("Identity", ["row"], ["same"])],
        "rows",
        [helper.make_tensor_value_info("row", FLOAT, None)],
        [helper.make_tensor_value_info("same", FLOAT, None)],
    )
    unused = helper.make_node("Identity", ["first"], ["logits"])
    unused.attribute.append(helper.make_attribute("unheard_of", _branch("inner")))
    several = helper.make_node("Identity", ["first"], ["logits"])
    several.attribute.append(
        AttributeProto(name="graphs", type=AttributeProto.GRAPHS, graphs=[_branch("one"), _branch("other")])
    )
    nodes = {
        "an endless Loop": (_endless_loop(),),
        "If": (yes, helper.make_node("If", ["yes"], ["logits"], **branches)),
        "Scan": (helper.make_node("Scan", ["first"], ["logits"], body=scan_body, num_scan_inputs=1),),
        "a graph in an unknown attribute": (unused,),
        "several graphs in an attribute": (several,),
    }
    return [_case(name, "control flow", more_nodes=more) for name, more in nodes.items()]


def _case(name: str, refused: str, *, is_loaded: bool = False, **changes: object) -> Case:
    return Case(name=name, data=Graph(**changes).build().SerializeToString(), refused=refused, is_loaded=is_loaded)


def _foreign_parts() -> list[Case]:
    gelu = helper.make_node("Gelu", ["first"], ["logits"], domain="com.microsoft")
    unknown = helper.make_node("Run", ["first"], ["logits"], domain="org.example")
    both = {"opsets": (("", 17), ("com.microsoft", 1), ("org.example", 1))}
    cases = [
        _case("an operator of ONNX Runtime's own", "outside the ONNX standard", more_nodes=(gelu,), **both),
        _case("a custom operator", "outside the ONNX standard", more_nodes=(unknown,), **both),
    ]
    function = helper.make_function(
        "org.example", "Run", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    model = Graph().build()
    model.functions.append(function)
    cases.append(Case(name="a function", data=model.SerializeToString(), refused="functions of its own"))
    model = Graph().build()
    model.training_info.add()
    cases.append(Case(name="a training graph", data=model.SerializeToString(), refused="training information"))
    model = Graph().build()
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "where")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**9]))
    cases.append(Case(name="a sparse tensor", data=model.SerializeToString(), refused="sparse"))
    return cases


def external_tensor(location: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "outside")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _external_data() -> list[Case]:
    cases = []
    for location in ("../secret", "/etc/passwd", "weights.bin", "*/_ORT_MEM_ADDR_/*"):
        model = Graph().build()
        model.graph.initializer.append(external_tensor(location))
        cases.append(
            Case(name=f"data at {location}", data=model.SerializeToString(), refused="weights in another file")
        )
    constant = helper.make_node("Constant", [], ["more"], value=external_tensor("../secret"))
    return [*cases, _case("data of a constant elsewhere", "weights in another file", more_nodes=(constant,))]


def _broken_bytes() -> list[Case]:
    good = Graph().build().SerializeToString()
    refused = "is not an ONNX file that recog exported"
    files = {
        "nothing": b"",
        "zeros": b"\x00" * 100,
        "text": b"not a model",
        "ones": b"\xff" * 1000,
        "a group": b"\x0b" * 1000,
        "an endless number": b"\x08" + b"\x80" * 100,
        "a length beyond the end": b"\x3a\xff\xff\xff\xff\x0f" + good,
        "no graph": b"\x08\x08",
        "millions of fields": b"\x3a\x80\x80\x80\x01" + b"\x08\x00" * (1 << 20),
    }
    cases = [Case(name=name, data=data, refused=refused) for name, data in files.items()]
    return [*cases, Case(name="cut off", data=good[: len(good) // 2], refused=refused)]


def _other_models() -> list[Case]:
    summed = helper.make_node("ReduceSum", ["first", "one"], ["logits"], keepdims=0)
    chosen = (
        helper.make_node("ReduceMax", ["first"], ["largest"], axes=[0], keepdims=0),
        helper.make_node("Cast", ["largest"], ["which"], to=BOOL),
        helper.make_node("Compress", ["first", "which"], ["logits"], axis=1),
    )
    changes = {
        "floats in": {"kind": FLOAT},
        "three axes": {"image_shape": ("B", 2, 2)},
        "another input's name": {"names": ("input", "logits", "features")},
        "another output's name": {"names": ("images", "scores", "features")},
        "no features": {"names": ("images", "logits", "hidden")},
        "a fixed batch": {"image_shape": (1, 2, 2, 1), "logits_shape": (1, 3), "features_shape": (1, 4)},
        "a size that is free": {"image_shape": ("B", "H", 2, 1)},
        "logits of one axis": {"logits_shape": ("B",), "more_nodes": (summed,)},
        "any number of classes": {"logits_shape": ("B", "K"), "more_nodes": chosen},
    }
    cases = [_case(name, "m.onnx (is not a model|cannot be loaded)", **change) for name, change in changes.items()]
    return [*cases, _case("class names that are none", "class_names in its metadata", metadata={"class_names": "3"})]


def _failing_calls() -> list[Case]:
    node = helper.make_node
    return [
        _case(
            "rows left out",
            r"answered 5 images with .*\(4, 3\).*expected",
            is_loaded=True,
            more_nodes=(node("Slice", ["first", "one", "end"], ["logits"]),),
            constants={"end": [2**31]},
        ),
        _case(
            "one row for all",
            "is not a model of recog's",
            more_nodes=(node("ReduceSum", ["flat", "zero"], ["features"]),),
        ),
        _case(
            "NaN",
            "answered 5 of 5 images with NaN or infinity",
            is_loaded=True,
            more_nodes=(node("Cast", ["zero"], ["no"], to=FLOAT), node("Div", ["first", "no"], ["logits"])),
        ),
        _case(
            "infinite features",
            "answered 5 of 5 images with NaN or infinity",
            is_loaded=True,
            more_nodes=(
                node("Cast", ["zero"], ["no"], to=FLOAT),
                node("Cast", ["one"], ["unit"], to=FLOAT),
                node("Div", ["unit", "no"], ["huge"]),
                node("Add", ["flat", "huge"], ["features"]),
            ),
        ),
        _case(
            "even batches alone",
            "failed on 5 images: ",
            is_loaded=True,
            more_nodes=(node("Reshape", ["first", "pairs"], ["logits"]),),
            constants={"pairs": [-1, 2]},
            logits_shape=("N", 2),
        ),
        _case(
            "an index that is not there",
            "failed on 5 images: ",
            is_loaded=True,
            more_nodes=(node("Gather", ["first", "index"], ["logits"], axis=1), node("Shape", ["images"], ["index"])),
            logits_shape=("N", 4),
        ),
        _case(
            "4 PiB of zeros",
            "failed on 5 images: ",
            is_loaded=True,
            more_nodes=(
                node("Shape", ["images"], ["shape"], end=1),
                node("Concat", ["shape", "huge"], ["huge_shape"], axis=0),
                node("Expand", ["one_float", "huge_shape"], ["zeros"]),
                node("Cast", ["one"], ["one_float"], to=FLOAT),
                node("ReduceMax", ["zeros"], ["largest"], axes=[1]),
                node("Add", ["first", "largest"], ["logits"]),
            ),
            constants={"huge": [2**50]},
        ),
    ]


CASES = [
    *_control_flow(),
    *_foreign_parts(),
    *_external_data(),
    *_broken_bytes(),
    *_other_models(),
    *_failing_calls(),
]


def write(case: Case, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(case.data)
    return path
