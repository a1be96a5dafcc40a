import numpy as np
import pytest

from recog.core.errors import BundleError
from recog.doctor.features import (
    LARGE,
    MAX_FOR_LARGE,
    SMALL,
    Neighbours,
    choose_networks,
    nearest_neighbours,
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
