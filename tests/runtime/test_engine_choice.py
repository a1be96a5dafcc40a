import json
from dataclasses import replace

import pytest

from recog.bundle.manifest import read_manifest
from recog.runtime.engine_choice import chosen_engine, record_engine
from recog.runtime.predictor import load


@pytest.fixture
def manifest(digits_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return read_manifest(digits_run.bundle)


def test_a_record_holds_for_its_network_and_thread_count_only(manifest):
    assert chosen_engine(manifest, 1) == "onnxruntime"
    record_engine(manifest, 1, "openvino")
    assert chosen_engine(manifest, 1) == "openvino"
    assert chosen_engine(manifest, 3) == "onnxruntime"
    other = replace(manifest, files={**manifest.files, "model.onnx": "0" * 64})
    assert chosen_engine(other, 1) == "onnxruntime"


def test_another_version_of_a_library_is_measured_anew(manifest, monkeypatch):
    record_engine(manifest, 1, "openvino")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "999")
    assert chosen_engine(manifest, 1) == "onnxruntime"


@pytest.mark.parametrize("content", [b"", b"[", b'{"engine": 3}', b'{"engine": "tpu"}', b"{}"])
def test_a_damaged_record_is_not_used(manifest, content):
    record_engine(manifest, 1, "openvino").write_bytes(content)
    assert chosen_engine(manifest, 1) == "onnxruntime"


def test_auto_loads_the_recorded_engine(manifest, digits_run):
    assert load(digits_run.bundle, num_threads=1, engine="auto").engine_name == "onnxruntime"
    path = record_engine(manifest, 1, "onnxruntime-no-spinning")
    assert json.loads(path.read_text()) == {"engine": "onnxruntime-no-spinning"}
    assert load(digits_run.bundle, num_threads=1, engine="auto").engine_name == "onnxruntime-no-spinning"
    assert load(digits_run.bundle, num_threads=1).engine_name == "onnxruntime"
