import ctypes
import gc
import sys

import numpy as np
import pytest
from onnx_by_hand import FLOAT, write_model

from recog.core.errors import BundleError, ConfigError, ShapeError
from recog.runtime.engine import open_engine

pytest.importorskip("openvino", reason="the extra 'fast' is not installed")


def test_logits_and_features_of_a_graph_by_hand(tmp_path):
    """Of two shapes in turn: outputs are copies, not views of memory that the next call overwrites."""
    engine = open_engine(write_model(tmp_path / "m.onnx"), "openvino", num_threads=1)
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    outputs = engine(images)
    other = engine(images[1:])
    assert outputs.logits.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert outputs.features.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert other.logits.tolist() == [[4, 5, 6]]


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    engine = open_engine(write_model(tmp_path / "m.onnx", metadata={"class_names": '["ä", "犬", "c"]'}), "openvino")
    assert (engine.class_names, engine.image_shape, engine.num_classes) == (("ä", "犬", "c"), (2, 2, 1), 3)


@pytest.mark.parametrize(
    "changes",
    [{"kind": FLOAT}, {"image_shape": ("B", 2, 2)}, {"names": ("input", "logits", "features")}, {"metadata": {}}],
)
def test_another_kind_of_model_is_refused(tmp_path, changes):
    with pytest.raises(BundleError, match=r"m\.onnx (is not a model of recog's|has no class names)"):
        open_engine(write_model(tmp_path / "m.onnx", **changes), "openvino")


def test_garbage_is_refused_before_openvino_reads_it(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"<net></net>")
    with pytest.raises(BundleError, match="is not an ONNX file that recog exported"):
        open_engine(tmp_path / "m.onnx", "openvino")


def test_images_of_another_shape_are_the_callers_fault(tmp_path):
    with pytest.raises(ShapeError, match=r"expected uint8 \(B, 2, 2, 1\)"):
        open_engine(write_model(tmp_path / "m.onnx"), "openvino")(np.zeros((1, 3, 2, 1), np.uint8))


class SignalStack(ctypes.Structure):
    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack():
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.pointer, stack.flags, stack.size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fault is known on Linux only")
def test_the_stack_of_signal_handlers_stays_the_same(tmp_path):
    """OpenVINO sets one that it frees with the model; a later signal would end the process by a segmentation fault."""
    before = signal_stack()
    engine = open_engine(write_model(tmp_path / "m.onnx"), "openvino", num_threads=1)
    assert signal_stack() == before
    engine(np.zeros((5, 2, 2, 1), np.uint8))
    assert signal_stack() == before
    del engine
    gc.collect()
    assert signal_stack() == before


def test_float32_agrees_with_onnxruntime_and_bfloat16_is_only_used_when_asked_for(digits_run):
    """bfloat16 has 8 bits of mantissa, so its logits of size 10 differ by some 0.04; those of float32 by some 1e-6."""
    images = np.random.default_rng(0).integers(0, 256, (33, 8, 8, 1), dtype=np.uint8)
    path = digits_run.bundle / "model.onnx"
    reference = open_engine(path, num_threads=1)(images)
    exact = open_engine(path, "openvino", num_threads=1)(images)
    np.testing.assert_allclose(exact.logits, reference.logits, atol=1e-4)
    np.testing.assert_allclose(exact.features, reference.features, atol=1e-4)
    try:
        rounded = open_engine(path, "openvino-bf16", num_threads=1)(images)
    except ConfigError as error:
        assert "this CPU has no bfloat16 arithmetic" in str(error)  # noqa: PT017  what other CPUs have to answer
        return
    difference = np.abs(rounded.logits - reference.logits).max()
    assert 1e-3 < difference < 1
