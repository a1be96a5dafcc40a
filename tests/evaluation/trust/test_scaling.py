import json
import math

import numpy as np
import pytest

from recog.core.errors import BundleError, ConfigError, DataError
from recog.core.records import convert_record
from recog.evaluation.measures.probability import ece_equal_width, nll, softmax
from recog.evaluation.trust.scaling import (
    ECE_TOLERANCE,
    METHODS,
    UNBOUNDED,
    Scaling,
    deal_folds,
    fit_scaling,
    fit_temperature,
)


def batch(num_images, *, factor=1.0, offsets=(0.0, 0.0, 0.0), seed=0):
    """Logits whose softmax is the true chance by Bayes, times `factor`, plus `offsets`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_images)
    return factor * 1.5 * (rng.normal(0, 1, (num_images, 3)) + 1.5 * np.eye(3)[labels]) + np.array(offsets), labels


def test_too_sure_gets_a_temperature():
    logits, labels = batch(400, factor=3)
    scaling = fit_scaling(logits, labels, data="val")
    assert scaling.method == "temperature"
    assert scaling.temperature == fit_temperature(logits, labels).temperature
    fit = scaling.fit
    assert (fit.data, fit.num_images, fit.num_folds) == ("val", 400, 5)
    assert (fit.nll_before, fit.ece_before) == (nll(logits, labels), ece_equal_width(softmax(logits), labels))
    assert fit.nll_after < fit.nll_before - 0.1
    assert fit.ece_after < fit.ece_before / 2
    assert "lowers the cross-validated NLL" in fit.reason


def test_after_is_by_fits_that_had_not_seen_the_image():
    logits, labels = batch(60, factor=3)
    folds = deal_folds(labels)
    total = 0.0
    for fold in range(5):
        temperature = fit_temperature(logits[folds != fold], labels[folds != fold]).temperature
        total += nll(logits[folds == fold] / temperature, labels[folds == fold]) * (folds == fold).sum()
    assert fit_scaling(logits, labels, method="temperature").fit.nll_after == pytest.approx(total / 60)


@pytest.mark.parametrize(("num_images", "expected"), [(2000, "vector"), (400, "temperature")])
def test_skewed_classes_get_a_vector_where_images_are_many(num_images, expected):
    logits, labels = batch(num_images, factor=3, offsets=(4.0, 0.0, -4.0))
    scaling = fit_scaling(logits, labels)
    assert scaling.method == expected
    if expected == "vector":
        np.testing.assert_allclose(scaling.factors, [1 / 3] * 3, rtol=0.15)
        np.testing.assert_allclose(scaling.offsets, [-4 / 3, 0, 4 / 3], atol=0.2)
        assert "below temperature scaling's" in scaling.fit.reason


def test_without_skew_no_vector_is_taken():
    """The true scaling is one factor; of 20 batches chance lets few take six numbers for it."""
    methods = [fit_scaling(*batch(600, factor=2, seed=seed)).method for seed in range(20)]
    assert methods.count("vector") <= 4
    assert methods.count("none") == 0


def test_what_is_calibrated_already_stays_in_about_half_of_all_cases():
    methods = [fit_scaling(*batch(300, seed=seed)) for seed in range(20)]
    kept = [scaling for scaling in methods if scaling.method == "none"]
    assert 5 <= len(kept) <= 18
    assert all("does not lower" in scaling.fit.reason or "raises the" in scaling.fit.reason for scaling in kept)
    assert all(scaling.fit.nll_after == scaling.fit.nll_before for scaling in kept)
    assert all(0.8 < scaling.temperature < 1.25 for scaling in methods)


@pytest.mark.parametrize("offsets", [(0.0, 0.0, 0.0), (1.0, 0.0, -1.0)])
def test_neither_held_out_nll_nor_ece_gets_worse(offsets):
    reasons = []
    for seed in range(20):
        fit = fit_scaling(*batch(60 if seed % 2 else 600, factor=1.1, offsets=offsets, seed=seed)).fit
        assert fit.nll_after <= fit.nll_before
        assert fit.ece_after <= fit.ece_before + ECE_TOLERANCE
        reasons.append(fit.reason)
    refused = [why for why in reasons if why.startswith("a temperature raises the cross-validated ECE")]
    assert refused or any(offsets)  # with these offsets there is something to gain


@pytest.mark.parametrize("wrong", [False, True])
def test_all_right_or_all_wrong_bound_no_temperature(wrong):
    logits = np.tile(np.eye(3) * 2, (10, 1))
    labels = np.tile(np.arange(3), 10)
    scaling = fit_scaling(-logits if wrong else logits, labels)
    assert scaling.method == "none"
    assert fit_scaling(logits, labels, method="temperature").fit.reason == UNBOUNDED


def test_what_is_asked_for_is_done():
    logits, labels = batch(100, factor=2)
    for method in METHODS:
        scaling = fit_scaling(logits, labels, method=method)
        assert (scaling.method, scaling.fit.reason) == (method, "as requested")
    with pytest.raises(ConfigError, match="'platt'; it must be one of auto, none"):
        fit_scaling(logits, labels, method="platt")


def test_one_image_fits_nothing():
    scaling = fit_scaling(np.array([[1.0, 0.0]]), np.array([0]))
    assert (scaling.method, scaling.fit.num_images, scaling.fit.num_folds) == ("none", 1, 0)


def test_by_hand():
    logits = np.array([[2.0, 0.0]])
    assert softmax(Scaling(method="temperature", temperature=2.0).apply(logits))[0, 0] == pytest.approx(
        math.e / (math.e + 1)
    )
    vector = Scaling(method="vector", factors=(0.5, 1.0), offsets=(0.0, 1.0))
    np.testing.assert_allclose(vector.apply(logits), [[1.0, 1.0]])


def test_folds_hold_each_class_evenly():
    labels = np.repeat([0, 1, 2], [10, 7, 3])
    folds = deal_folds(labels)
    counts = np.array([np.bincount(folds[labels == k], minlength=5) for k in range(3)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert np.bincount(folds).tolist() == [4] * 5
    assert (deal_folds(labels) == folds).all()


@pytest.mark.parametrize("method", METHODS)
def test_round_trip_through_json(method):
    logits, labels = batch(100, factor=2)
    scaling = fit_scaling(logits, labels, method=method)
    again = convert_record(json.loads(json.dumps(scaling.to_dict())), Scaling, where="calibration.json")
    assert again == scaling
    assert (again.apply(logits) == scaling.apply(logits)).all()


@pytest.mark.parametrize(
    "table",
    [
        {"method": "temperature", "temperature": 0.0},
        {"method": "temperature", "temperature": math.nan},
        {"method": "vector"},
        {"method": "vector", "factors": [1.0, 1.0], "offsets": [0.0]},
        {"method": "vector", "factors": [1.0, -1.0], "offsets": [0.0, 0.0]},
        {"method": "vector", "factors": [1.0, 1.0], "offsets": [0.0, math.inf]},
        {"method": "none", "factors": [1.0], "offsets": [0.0]},
        {"method": "none", "temperature": "hot"},
    ],
)
def test_impossible_numbers_are_refused(table):
    with pytest.raises(BundleError, match="calibration"):
        convert_record(table, Scaling, where="calibration.json")


def test_bad_logits_are_refused():
    with pytest.raises(DataError, match="NaN"):
        fit_scaling(np.array([[np.nan, 0.0]]), np.array([0]))
