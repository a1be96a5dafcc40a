"""Refusals stand in tests/hostile/test_bad_graphs.py; here is what must pass."""

import pytest
from bad_graphs import Graph
from onnx import helper

from recog.runtime.onnx_graph import check_graph


def test_an_exported_network_passes(digits_run):
    check_graph(digits_run.bundle / "model.onnx")


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_both_names_of_the_standard_pass(tmp_path, domain):
    node = helper.make_node("Relu", ["first"], ["logits"], domain=domain)
    (tmp_path / "m.onnx").write_bytes(Graph(more_nodes=(node,)).build().SerializeToString())
    check_graph(tmp_path / "m.onnx")
