import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_by_hand import FLOAT, write_model

from recog.core.errors import BundleError, ShapeError
from recog.runtime.engines.onnxruntime_engine import OnnxEngine


def test_logits_and_features_of_a_graph_by_hand(tmp_path):
    engine = OnnxEngine(write_model(tmp_path / "m.onnx"))
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    outputs = engine(images)
    assert outputs.logits.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert outputs.features.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert outputs.logits.dtype == np.float32


def test_the_graph_says_what_it_takes_and_gives(tmp_path):
    engine = OnnxEngine(write_model(tmp_path / "m.onnx", metadata={"class_names": '["ä", "犬", "c"]'}))
    assert engine.class_names == ("ä", "犬", "c")
    assert engine.image_shape == (2, 2, 1)
    assert engine.num_classes == 3


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "has no class names in its metadata"),
        ({"class_names": ""}, "class_names in its metadata is not valid JSON"),
        ({"class_names": "a, b, c"}, "class_names in its metadata is not valid JSON"),
        ({"class_names": '{"a": 0}'}, "class_names in its metadata: the record is an object; expected a list"),
        ({"class_names": "3"}, "class_names in its metadata: the record is a whole number; expected a list"),
        ({"class_names": "[1, 2, 3]"}, r"class_names in its metadata: \[0\] is a whole number; expected text"),
        ({"class_names": "[" * 100_000}, "class_names in its metadata is nested more than 32 levels deep"),
    ],
)
def test_metadata_without_class_names_is_refused(tmp_path, metadata, words):
    with pytest.raises(BundleError, match=rf"m\.onnx.*{words}"):
        OnnxEngine(write_model(tmp_path / "m.onnx", metadata=metadata))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": FLOAT},
        {"image_shape": ("B", 2, 2)},
        {"names": ("input", "logits", "features")},
        {"names": ("images", "scores", "features")},
        {"names": ("images", "logits", "hidden")},
    ],
)
def test_another_kind_of_model_is_refused(tmp_path, changes):
    with pytest.raises(BundleError, match=r"m\.onnx is not a model of recog's: it takes .*expected images uint8"):
        OnnxEngine(write_model(tmp_path / "m.onnx", **changes))


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"not a model", b"\xff" * 1000])
def test_garbage_is_a_bundle_error(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"m\.onnx is not an ONNX file that recog exported"):
        OnnxEngine(tmp_path / "m.onnx")


def test_a_missing_file_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        OnnxEngine(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 3, 2, 1), np.uint8), ((2, 2, 1), np.uint8), ((1, 2, 2, 1), np.float32)]
)
def test_images_of_another_shape_or_type_are_the_callers_fault(tmp_path, shape, dtype):
    with pytest.raises(ShapeError, match=r"expected uint8 \(B, 2, 2, 1\)"):
        OnnxEngine(write_model(tmp_path / "m.onnx"))(np.zeros(shape, dtype))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_a_graph_cannot_read_outside_its_folder(tmp_path, location):
    """External data with a path that leads out, as in CVE-2024-27318 of onnx; it is refused before ONNX Runtime sees it."""
    (tmp_path / "secret").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "bundle").mkdir()
    path = write_model(tmp_path / "bundle" / "m.onnx")
    model = onnx.load(path)
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    model.graph.initializer.append(tensor)
    model.graph.node.append(helper.make_node("Add", ["features", "w"], ["more"]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="weights in another file"):
        OnnxEngine(path)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_do_not_change_the_answer(digits_run, num_threads):
    images = np.random.default_rng(0).integers(0, 256, (33, 8, 8, 1), dtype=np.uint8)
    path = digits_run.bundle / "model.onnx"
    one, other = OnnxEngine(path, num_threads=1), OnnxEngine(path, num_threads=num_threads)
    np.testing.assert_allclose(one(images).logits, other(images).logits, atol=1e-5)
