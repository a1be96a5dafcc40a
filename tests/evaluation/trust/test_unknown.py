import dataclasses
import json
import math

import numpy as np
import pytest
from batches import clusters
from scipy.spatial.distance import mahalanobis

from recog.core.errors import BundleError, ConfigError, DataError
from recog.core.records import convert_record
from recog.evaluation.trust.conformal import conformal_quantile
from recog.evaluation.trust.unknown import (
    FEATURE_METHODS,
    UNKNOWN_METHODS,
    FeatureStatistics,
    LeftOut,
    Moments,
    UnknownRule,
    fit_rule,
    fit_statistics,
    fit_weight,
    neighbours_for,
    shrink,
    unit_rows,
    unknown_scores,
    whiten,
)


def scores_of(method, features, logits):
    known, known_logits, labels = clusters(90)
    statistics = fit_statistics(method, known, labels)
    weight = fit_weight(known_logits, known, statistics) if method == "energy_mahalanobis" else 0.0
    return unknown_scores(method, logits, features, statistics, num_neighbours=5, weight=weight)


# the scores, by hand or by another's code


def test_max_softmax_and_energy_by_hand():
    logits = np.array([[math.log(3), 0.0], [50_000.0, 0.0]])
    nothing = np.zeros((2, 1))
    np.testing.assert_allclose(unknown_scores("max_softmax", logits, nothing, None), [-0.75, -1.0])
    np.testing.assert_allclose(unknown_scores("energy", logits, nothing, None), [-math.log(4), -50_000.0])


def test_knn_by_hand():
    # At length 1 the bank is (1, 0), (0, 1), (0, 1); of (2, 0) the second nearest is a right angle away: sqrt(2).
    statistics = fit_statistics("knn", np.array([[3.0, 0], [0, 1], [0, 9]]), np.zeros(3, dtype=np.int64))
    ask = np.array([[2.0, 0.0]])
    assert unknown_scores("knn", np.zeros((1, 2)), ask, statistics, num_neighbours=1)[0] == pytest.approx(0)
    assert unknown_scores("knn", np.zeros((1, 2)), ask, statistics, num_neighbours=2)[0] == pytest.approx(math.sqrt(2))


def test_the_covariance_is_scikit_learns_oas():
    from sklearn.covariance import OAS

    for shape in ((200, 5), (10, 30)):
        rows = np.random.default_rng(0).normal(0, [[1 + i for i in range(shape[1])]], shape)
        rows -= rows.mean(axis=0)
        expected = OAS(assume_centered=True).fit(rows)
        white = whiten(shrink(rows.T @ rows / len(rows), len(rows)))
        np.testing.assert_allclose(white @ white.T, np.linalg.inv(expected.covariance_), rtol=1e-6, atol=1e-9)


def test_mahalanobis_equals_scipys():
    features, logits, labels = clusters(60)
    statistics = fit_statistics("mahalanobis", features, labels)
    precision = statistics.unit_whitening.astype(np.float64) @ statistics.unit_whitening.T
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = [rows[labels == k].mean(axis=0) for k in range(3)]
    ask = clusters(5, seed=1)[0]
    expected = [min(mahalanobis(x / np.linalg.norm(x), mean, precision) for mean in means) for x in ask]
    found = unknown_scores("mahalanobis", logits[:5], ask, statistics)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(unknown_scores("mahalanobis", logits[:5], 7 * ask, statistics), found, rtol=1e-5)
    both = unknown_scores("energy_mahalanobis", logits[:5], ask, statistics, weight=2.5)
    energy = unknown_scores("energy", logits[:5], ask, None)
    np.testing.assert_allclose(both, energy + 2.5 * np.array(expected), rtol=1e-4)


@pytest.mark.parametrize("method", FEATURE_METHODS)
def test_a_view_restores_the_last_columns_before_they_were_standardised(method):
    features, logits, labels = clusters(60)
    shift, scale = features.mean(axis=0), 1 / features.std(axis=0)
    standard = np.concatenate([np.ones((60, 3)), (features - shift) * scale], axis=1).astype(np.float32)
    plain = fit_statistics(method, features, labels)
    seen = dataclasses.replace(plain, view_scale=1 / scale[None], view_shift=shift[None])
    expected = unknown_scores(method, logits, features, plain, weight=1.0)
    np.testing.assert_allclose(
        unknown_scores(method, logits, standard, seen, weight=1.0), expected, rtol=1e-3, atol=1e-4
    )
    with pytest.raises(BundleError, match="does not fit the 5 features"):
        unknown_scores(method, logits, standard[:, :5], seen, weight=1.0)


def test_the_weight_gives_energy_and_distance_the_same_spread():
    # of one class at (1, 0) and the identity as covariance, the distance is that of the unit vectors: 2 sin(angle / 2)
    statistics = FeatureStatistics(
        unit_whitening=np.eye(2, dtype=np.float32), unit_centres=np.array([[1, 0]], dtype=np.float32)
    )
    angles = 2 * np.arcsin(np.linspace(0, 0.5, 101))
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # distances 0, 0.01, ... 1: from 0.5 to 0.95 is 0.45
    logits = np.stack(
        [np.linspace(9, 0, 101), np.full(101, -1e4)], axis=1
    )  # energies -9 ... 0: from -4.5 to -0.45 is 4.05
    assert fit_weight(logits, features, statistics) == pytest.approx(4.05 / 0.45, rel=1e-5)
    assert fit_weight(logits, np.ones((101, 2)), statistics) == 0.0  # the distance says nothing


def test_a_class_taken_out_leaves_what_the_others_have():
    features, _, labels = clusters(60)
    anew = Moments.of(features[labels != 1], labels[labels != 1])
    less = Moments.of(features, labels).without(1, features[labels == 1])
    np.testing.assert_allclose(less.within, anew.within, atol=1e-9)
    np.testing.assert_allclose(less.means, anew.means)
    assert less.counts.tolist() == anew.counts.tolist() == [20, 20]


def test_features_that_never_vary_do_no_harm():
    features, logits, labels = clusters(60)
    features[:, 3] = 7.0
    statistics = fit_statistics("mahalanobis", features, labels)
    assert np.isfinite(unknown_scores("mahalanobis", logits, features, statistics)).all()
    flat = fit_statistics("mahalanobis", np.ones_like(features), labels)
    assert np.isfinite(unknown_scores("mahalanobis", logits, features, flat)).all()
    assert (unit_rows(np.zeros((2, 3))) == 0).all()


@pytest.mark.parametrize("method", UNKNOWN_METHODS)
def test_what_is_far_from_all_classes_is_stranger(method):
    features, logits, _ = clusters(30, seed=2)
    centres = 5 * np.eye(3, 6)
    far = np.zeros((30, 6), dtype=np.float32)
    far[:, 5] = 8  # in none of the classes' directions
    far += np.random.default_rng(3).normal(0, 1, far.shape).astype(np.float32)
    known = scores_of(method, features, logits)
    strange = scores_of(method, far, (far @ centres.T).astype(np.float32))
    assert np.median(strange) > np.quantile(known, 0.9)


def test_neighbours_are_fewer_than_a_small_class():
    assert neighbours_for(np.repeat([0, 1], [100, 100])) == 10
    assert neighbours_for(np.repeat([0, 2], [100, 6])) == 3
    assert neighbours_for(np.array([0, 1])) == 1


def test_broken_features_and_missing_parts_are_refused():
    features, logits, labels = clusters(30)
    statistics = fit_statistics("knn", features, labels)
    with pytest.raises(DataError, match="features are NaN"):
        unknown_scores("knn", logits, features * np.nan, statistics)
    with pytest.raises(ConfigError, match="needs features.safetensors"):
        unknown_scores("knn", logits, features, None)
    with pytest.raises(BundleError, match=r"'bank' of shape \(30, 6\), which does not fit the 4 features"):
        unknown_scores("knn", logits, features[:, :4], statistics)
    with pytest.raises(BundleError, match="'unit_whitening'"):
        unknown_scores("mahalanobis", logits, features, statistics)


# the rule


def test_the_threshold_holds_the_false_alarms():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    rule = fit_rule("energy", scores, false_alarm_rate=0.05, data="val", reason="as requested")
    assert rule.threshold == conformal_quantile(scores, 0.05) == 95
    assert rule.is_unknown(np.array([95.0, 95.5])).tolist() == [False, True]


def test_on_average_no_more_known_images_are_rejected_than_stated():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        fit, new = rng.normal(size=60), rng.normal(size=500)
        rule = fit_rule("energy", fit, false_alarm_rate=0.1, data="val", reason="-")
        rates.append(rule.is_unknown(new).mean())
    assert 0.08 < np.mean(rates) <= 0.105


def test_too_few_images_refuse_with_the_reason():
    rule = fit_rule("energy", np.zeros(18), false_alarm_rate=0.05, data="val", reason="-")
    assert rule.threshold is None
    assert "18 calibration images are too few for a false-alarm rate of 5.0%; at least 19" in rule.reason
    assert fit_rule("energy", np.zeros(19), false_alarm_rate=0.05, data="val", reason="-").threshold == 0
    with pytest.raises(ConfigError, match="does not tell what is unknown: 18 calibration images"):
        rule.is_unknown(np.zeros(1))


def rule(**changes):
    table = {
        "method": "knn",
        "threshold": 0.5,
        "false_alarm_rate": 0.05,
        "num_images": 40,
        "data": "val",
        "reason": "-",
    }
    rows = (LeftOut(method="knn", mean_auroc=0.9, min_auroc=0.8),)
    return UnknownRule(**{**table, "left_out": rows, "num_left_out": 3, "num_neighbours": 5, **changes})


def test_round_trip_through_json():
    joined = rule(method="energy_mahalanobis", weight=0.25)
    for one in (
        rule(),
        rule(method="mahalanobis", weight=1.0),
        rule(threshold=None),
        rule(method="energy", left_out=()),
        joined,
    ):
        assert convert_record(json.loads(json.dumps(one.to_dict())), UnknownRule, where="calibration.json") == one
    assert rule().needs_features
    assert not rule(method="energy").needs_features


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "odin"},
        {"threshold": math.nan},
        {"false_alarm_rate": 0.0},
        {"num_neighbours": -1},
        {"weight": math.inf},
        {"method": "energy_mahalanobis"},  # without its weight
        {"method": "mahalanobis"},
        {"method": "relative_mahalanobis"},
    ],
)
def test_impossible_rules_are_refused(changes):
    with pytest.raises(ConfigError):
        rule(**changes)


# the file


@pytest.mark.parametrize("method", FEATURE_METHODS)
def test_statistics_survive_the_file(method):
    features, logits, labels = clusters(40)
    statistics = fit_statistics(method, features, labels)
    again = FeatureStatistics.from_tensors(statistics.to_tensors())
    ask = (method, logits, features, again)
    assert (unknown_scores(*ask) == unknown_scores(method, logits, features, statistics)).all()


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("weights", np.ones((2, 2), dtype=np.float32)),
        ("whitening", np.ones((2, 2), dtype=np.float32)),  # what an earlier release wrote, for features of any length
        ("bank", np.ones((2, 2), dtype=np.float32)),
        ("unit_centres", np.ones((2, 2))),
        ("unit_centres", np.ones(2, dtype=np.float32)),
        ("unit_whitening", np.full((2, 2), np.inf, dtype=np.float32)),
    ],
)
def test_parts_that_are_not_known_or_not_finite_are_refused(name, tensor):
    with pytest.raises(BundleError, match=f"'{name}' that this release cannot use"):
        FeatureStatistics.from_tensors({name: tensor})
