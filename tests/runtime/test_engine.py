import numpy as np
import pytest
from bad_graphs import Graph
from onnx import helper

from recog.core.errors import BundleError, ConfigError
from recog.runtime.engine import (
    ENGINES,
    Signature,
    check_engine_name,
    check_graph,
    check_signature,
    checked_outputs,
    output_names,
)

SIGNATURE = Signature((2, 2, 1), 3, 4)


def test_an_unknown_engine_names_the_nearest():
    assert check_engine_name("openvino") == "openvino"
    with pytest.raises(
        ConfigError, match=r"no engine 'open-vino'; expected auto, onnxruntime.*Did you mean 'openvino'\?"
    ):
        check_engine_name("open-vino")


def test_bfloat16_is_in_an_engines_name():
    assert {name for name, spec in ENGINES.items() if spec.precision == "bfloat16"} == {"openvino-bf16"}


def test_a_graph_with_a_fixed_batch_is_refused(tmp_path):
    outputs = {"logits": ("float32", "B", 3), "features": ("float32", "B", 4)}
    assert check_signature({"images": ("uint8", None, 2, 2, 1)}, outputs, tmp_path) == ((2, 2, 1), 3, 4, None)
    with pytest.raises(BundleError, match="for any B"):
        check_signature({"images": ("uint8", 1, 2, 2, 1)}, outputs, tmp_path)


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.zeros((1, 3)), r"answered 2 images with logits and features of the shapes \(\(1, 3\), \(2, 4\)\)"),
        (np.array([[0, 0, 0], [0, np.inf, 0]]), "answered 1 of 2 images with NaN or infinity"),
    ],
)
def test_outputs_that_cannot_be_are_refused(tmp_path, logits, words):
    with pytest.raises(BundleError, match=words):
        checked_outputs([logits.astype(np.float32), np.zeros((2, 4), np.float32)], SIGNATURE, 2, tmp_path)


def test_a_feature_map_must_fit_the_features(tmp_path):
    images, logits = {"images": ("uint8", None, 8, 8, 1)}, {"logits": ("float32", "B", 3)}
    outputs = logits | {"features": ("float32", "B", 4), "feature_map": ("float32", "B", 4, 5, 6)}
    assert check_signature(images, outputs, tmp_path).map_size == (5, 6)
    assert output_names(check_signature(images, outputs, tmp_path), tmp_path, feature_map=True)[-1] == "feature_map"
    with pytest.raises(BundleError, match="feature_map"):
        check_signature(images, outputs | {"feature_map": ("float32", "B", 3, 5, 6)}, tmp_path)
    with pytest.raises(ConfigError, match="no output feature_map.*export.feature_map=true"):
        output_names(SIGNATURE, tmp_path, feature_map=True)


def test_a_feature_map_is_checked_as_the_other_outputs_are(tmp_path):
    values = [np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32), np.zeros((2, 4, 5, 6), np.float32)]
    mapped = SIGNATURE._replace(map_size=(5, 6))
    assert checked_outputs(values, mapped, 2, tmp_path).feature_map is values[2]
    assert checked_outputs([value[:0] for value in values], mapped, 0, tmp_path).logits.shape == (0, 3)
    values[2][1, 0, 0, 0] = np.nan
    with pytest.raises(BundleError, match="answered 1 of 2 images with NaN"):
        checked_outputs(values, mapped, 2, tmp_path)


def test_an_exported_network_passes(digits_run):
    check_graph(digits_run.bundle / "model.onnx")


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_both_names_of_the_standard_pass(tmp_path, domain):
    node = helper.make_node("Relu", ["first"], ["logits"], domain=domain)
    (tmp_path / "m.onnx").write_bytes(Graph(more_nodes=(node,)).build().SerializeToString())
    check_graph(tmp_path / "m.onnx")
