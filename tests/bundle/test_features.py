import numpy as np
import pytest

from recog.bundle.reference import FEATURES, MAX_FEATURES_BYTES, read_features, write_features
from recog.core.errors import BundleError


def test_round_trip(tmp_path):
    tensors = {"bank": np.arange(6, dtype=np.float16).reshape(2, 3), "centres": np.ones((1, 3), dtype=np.float32)}
    write_features(tmp_path, tensors)
    found = read_features(tmp_path)
    assert sorted(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def test_equal_arrays_make_equal_files(tmp_path):
    one, two = np.ones((2, 2), dtype=np.float32), np.zeros((1, 2), dtype=np.float32)
    write_features(tmp_path, {"a": one, "b": two})
    first = (tmp_path / FEATURES).read_bytes()
    write_features(tmp_path, {"b": two, "a": one})
    assert (tmp_path / FEATURES).read_bytes() == first


def test_anything_else_is_refused(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        read_features(tmp_path)
    (tmp_path / FEATURES).write_bytes(b"not safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        read_features(tmp_path)
    with (tmp_path / FEATURES).open("wb") as file:
        file.truncate(MAX_FEATURES_BYTES + 1)
    with pytest.raises(BundleError, match="at most 134217728 are read"):
        read_features(tmp_path)
