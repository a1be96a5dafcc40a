"""The coverage experiment on made-up answers: recog's sets are MAPIE's, and hold the true class as often as they say."""

import numpy as np
import pytest

from recog.evaluation.measures.probability import softmax


@pytest.fixture
def experiment(load_benchmark):
    return load_benchmark("coverage")


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_the_sets_are_mapies_and_hold_their_rate(experiment, method):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 3000)
    probs = softmax(1.5 * rng.normal(0, 1, (3000, 6)) + 2 * np.eye(6)[labels])
    splits = list(experiment.run_splits(method, probs, labels, num_splits=40, num_fit=500))
    assert np.mean([split.coverage for split in splits]) == pytest.approx(0.9, abs=0.01)
    assert all(split.coverage_filled >= split.coverage for split in splits)
    assert max(split.quantile_difference for split in splits) < 1e-12
    if method == "raps":  # MAPIE drops the last class by another chance beyond the free ones
        assert np.mean([split.mapie_coverage for split in splits]) == pytest.approx(0.9, abs=0.015)
    else:
        assert sum(split.num_different_sets for split in splits) == 0
