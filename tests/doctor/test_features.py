import subprocess
import sys

import numpy as np
import pytest

from recog.core.errors import BundleError, RecogError
from recog.core.images.decode import DEFAULT_LIMITS
from recog.doctor.features import (
    LARGE,
    MAX_FOR_LARGE,
    SMALL,
    Neighbours,
    choose_networks,
    keep_export,
    kept_export,
    nearest_neighbours,
    pretrained_extractor,
    run_extractor,
    standardised,
)


def test_photos_get_two_networks_unless_they_are_small_or_many():
    assert choose_networks([240] * 50) == (SMALL, LARGE)
    assert choose_networks([32] * 50) == (SMALL,)
    assert choose_networks([240] * (MAX_FOR_LARGE + 1)) == (SMALL,)
    assert choose_networks([]) == (SMALL,)


def test_a_run_gives_its_own_network(bundle):
    (network,) = run_extractor(bundle).networks
    height, width = network.preprocess.image_size
    images = np.zeros((2, height, width, network.preprocess.channels), np.uint8)
    assert len(network.engine(images).features) == 2
    with pytest.raises(BundleError, match="there is no bundle or run"):
        run_extractor("no-such-run")


def test_standardised_features_have_mean_0_and_deviation_1():
    features = np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)
    found = standardised(features)
    assert found.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert found.std(axis=0) == pytest.approx(1, abs=1e-4)


def test_nearest_neighbours_are_those_of_all_cosines():
    features = np.random.default_rng(0).normal(size=(27, 12)).astype(np.float32)
    *_, found = nearest_neighbours(features, 4)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = units @ units.T - 3 * np.eye(len(units))
    assert found.rows.tolist() == np.argsort(-cosines, axis=1)[:, :4].tolist()
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :4], rtol=1e-5)


def test_fewer_images_than_neighbours():
    *_, found = nearest_neighbours(np.eye(3, dtype=np.float32), 30)
    assert isinstance(found, Neighbours)
    assert found.rows.shape == (3, 2)
    assert found.cosines == pytest.approx(0)


def test_many_images_go_through_a_network_in_parts(bundle):
    """The features of 40 images at once are those of each alone, however large the part."""
    (network,) = run_extractor(bundle).networks
    images = np.random.default_rng(0).integers(0, 256, (40, *network.engine.image_shape), dtype=np.uint8)
    at_once = network.engine(images).features
    np.testing.assert_allclose(network.features(images), at_once, rtol=1e-4, atol=1e-5)


def test_an_export_is_kept_until_a_file_of_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "net.onnx").write_bytes(b"network")
    assert kept_export((SMALL,)) is None
    keep_export((SMALL,), exported)
    keep_export((SMALL,), exported)  # as of another process: no error
    folder = kept_export((SMALL,))
    assert (folder / "net.onnx").read_bytes() == b"network"
    assert kept_export((SMALL, LARGE)) is None  # another export
    (folder / "net.onnx").write_bytes(b"netw0rk")
    assert kept_export((SMALL,)) is None
    assert not folder.exists()


def test_without_a_cache_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    keep_export((SMALL,), tmp_path)
    assert kept_export((SMALL,)) is None


@pytest.mark.slow
def test_a_pretrained_network_is_exported_by_another_process_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = (
        "import sys, numpy as np\n"
        "from recog.core.images.decode import DEFAULT_LIMITS\n"
        "from recog.doctor.features import SMALL, pretrained_extractor\n"
        "with pretrained_extractor((SMALL,), DEFAULT_LIMITS, num_threads=1) as extractor:\n"
        "    (network,) = extractor.networks\n"
        "    print(network.preprocess.image_size, network.features(np.zeros((2, 224, 224, 3), np.uint8)).shape[0])\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split("\n")[:2] == ["(224, 224) 2", "False"]
    folder = kept_export((SMALL,))
    first = (folder / f"{SMALL[0]}.onnx").stat().st_mtime_ns
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert again.stdout == done.stdout
    assert (folder / f"{SMALL[0]}.onnx").stat().st_mtime_ns == first


def test_an_export_that_fails_raises_its_own_error():
    with (
        pytest.raises(RecogError, match="no-such-network"),
        pretrained_extractor((("no-such-network", 224),), DEFAULT_LIMITS),
    ):
        pass
