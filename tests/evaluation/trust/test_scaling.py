import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from recog.core.errors import BundleError, ConfigError, DataError
from recog.core.records import convert_record
from recog.evaluation.measures.probability import ece_equal_width, log_softmax, nll, softmax
from recog.evaluation.trust.scaling import (
    ECE_TOLERANCE,
    METHODS,
    UNBOUNDED,
    Scaling,
    deal_folds,
    fit_scaling,
    fit_temperature,
    fit_vector,
    scale_by_class,
    scale_logits,
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
    assert "lowers the cross-fitted NLL" in fit.reason


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
    refused = [why for why in reasons if why.startswith("a temperature raises the cross-fitted ECE")]
    assert refused or any(offsets)  # with these offsets there is something to gain


@pytest.mark.parametrize("seed", [19, 33])
def test_a_rise_of_the_ece_by_chance_is_no_reason_against_the_true_temperature(seed):
    """The logits are 1.3 times the true ones; on these draws the ECE rises by 0.1 and 0.2 points though the NLL falls."""
    scaling = fit_scaling(*batch(400, factor=1.3, seed=seed))
    assert scaling.fit.ece_before < scaling.fit.ece_after <= scaling.fit.ece_before + ECE_TOLERANCE
    assert (scaling.method, scaling.fit.reason.endswith("hardly raises the ECE")) == ("temperature", True)
    assert scaling.temperature == pytest.approx(1.3, rel=0.1)


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


def overconfident(num_images, factor, seed=0):
    """Logits whose softmax is the true chance by Bayes, times `factor`: the temperature to find."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, num_images)
    return factor * 1.5 * (rng.normal(0, 1, (num_images, 4)) + 1.5 * np.eye(4)[labels]), labels


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 5))
def test_no_other_temperature_is_better(seed, factor):
    logits, labels = overconfident(200, factor, seed)
    fit = fit_temperature(logits, labels)
    other = minimize_scalar(
        lambda t: nll(logits / t, labels), bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9}
    )
    assert fit.temperature == pytest.approx(other.x, rel=1e-4)
    assert fit.nll_after <= min(other.fun, fit.nll_before) + 1e-12
    assert (fit.nll_before, fit.is_bounded, fit.num_images) == (nll(logits, labels), False, 200)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_finds_the_factor_and_mends_the_ece(factor):
    logits, labels = overconfident(50_000, factor)
    fit = fit_temperature(logits.astype(np.float32), labels)
    assert fit.temperature == pytest.approx(factor, rel=0.03)
    after = softmax(scale_logits(logits, fit.temperature))
    assert ece_equal_width(after, labels) < 0.01
    assert (after.argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_equal_to_netcal(factor):
    from netcal.scaling import TemperatureScaling  # a second to import

    logits, labels = overconfident(1000, factor)
    theirs = TemperatureScaling()
    theirs.fit(softmax(logits), labels)
    fit = fit_temperature(logits, labels)
    assert 1 / theirs.temperature[0] == pytest.approx(fit.temperature, rel=1e-5)
    ours = softmax(scale_logits(logits, fit.temperature))
    np.testing.assert_allclose(theirs.transform(softmax(logits)), ours, atol=1e-5)


def test_temperature_by_hand():
    # Three of four right, each with odds e^2 : 1. The best probability is 3/4, odds 3 = e^(2 / T).
    logits = np.tile([[2.0, 0.0]], (4, 1))
    assert fit_temperature(logits, np.array([0, 0, 0, 1])).temperature == pytest.approx(2 / math.log(3))


def test_where_every_answer_is_right_the_data_ask_for_certainty():
    fit = fit_temperature(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    assert (fit.temperature, fit.is_bounded) == (0.01, True)


def test_worse_than_chance_asks_for_no_certainty_at_all():
    fit = fit_temperature(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([1, 0]))
    assert (fit.temperature, fit.is_bounded) == (100.0, True)


def test_even_logits_say_nothing():
    fit = fit_temperature(np.zeros((3, 2)), np.array([0, 1, 1]))
    assert (fit.temperature, fit.is_bounded) == (1.0, True)


def test_temperature_refuses_bad_logits():
    with pytest.raises(DataError, match="NaN"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


def skewed(num_images, seed=0):
    """Logits whose softmax is the true chance by Bayes, then bent by a factor and an offset for each class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_images)
    true = 1.5 * (rng.normal(0, 1, (num_images, 3)) + 1.5 * np.eye(3)[labels])
    return (true - np.array([1.0, -1.0, 0.0])) / np.array([0.5, 1.0, 2.0]), labels


def test_finds_what_bent_the_logits():
    logits, labels = skewed(100_000)
    fit = fit_vector(logits, labels)
    np.testing.assert_allclose(fit.factors, [0.5, 1.0, 2.0], rtol=0.03)
    np.testing.assert_allclose(fit.offsets, [1.0, -1.0, 0.0], atol=0.04)
    assert fit.num_images == 100_000


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_a_search_without_our_slopes_finds_nothing_better(seed):
    logits, labels = skewed(150, seed)
    fit = fit_vector(logits, labels)
    other = minimize(lambda x: nll(logits * x[:3] + x[3:], labels), np.array([1.0] * 3 + [0.0] * 3), method="BFGS")
    assert fit.nll_after <= other.fun + 1e-7
    assert fit.nll_after <= fit_temperature(logits, labels).nll_after + 1e-12
    assert fit.nll_before == nll(logits, labels)
    assert sum(fit.offsets) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_vector_scaling_is_equal_to_netcal(seed):
    """netcal scales the logarithms of probabilities, so it is given those on both sides."""
    from netcal.scaling import LogisticCalibration  # a second to import

    logits, labels = skewed(1000, seed)
    logs = log_softmax(logits)
    theirs = LogisticCalibration(temperature_only=False)
    theirs.fit(softmax(logits), labels)
    expected = nll(np.log(theirs.transform(softmax(logits)).astype(np.float64)), labels)
    assert fit_vector(logs, labels).nll_after == pytest.approx(expected, abs=2e-4)
    assert fit_vector(logs, labels).nll_after <= expected + 1e-6


def test_one_factor_and_no_offset_is_a_temperature():
    logits = np.array([[1.0, 3.0, -1.0]])
    np.testing.assert_allclose(scale_by_class(logits, (0.5,) * 3, (0.0,) * 3), logits / 2)


def test_where_every_answer_is_right_the_fit_ends_at_its_bounds():
    fit = fit_vector(np.eye(3) * 4, np.arange(3))
    assert np.isfinite(fit.factors).all()
    assert max(fit.factors) <= 100
    assert fit.nll_after < 1e-6


def test_vector_scaling_refuses_bad_logits():
    with pytest.raises(DataError, match="NaN"):
        fit_vector(np.array([[np.nan, 0.0]]), np.array([0]))


def test_one_error_alone_does_not_make_the_temperature_run_away():
    """Of 50 images one is wrong, by a margin of 2. The fold without it has only right answers, which ask for a temperature of 0:
    1/100 would make its NLL log(1 + exp(200)) = 200, and 4 the mean. No temperature is fitted there, so it keeps its
    log(1 + exp(2)).
    """
    labels = np.arange(50) % 2
    logits = np.where(np.eye(2)[labels] == 1, 4.0, 0.0)
    logits[0] = logits[0][::-1] / 2
    scaling = fit_scaling(logits, labels, method="temperature")
    folds = deal_folds(labels)
    total = math.log1p(math.exp(2)) + (folds == folds[0])[1:].sum() * math.log1p(math.exp(-4))
    for fold in set(folds.tolist()) - {int(folds[0])}:
        rest = folds != fold
        temperature = fit_temperature(logits[rest], labels[rest]).temperature
        total += nll(logits[folds == fold] / temperature, labels[folds == fold]) * (folds == fold).sum()
    assert scaling.fit.nll_after == pytest.approx(total / 50)
    assert scaling.fit.nll_after < 0.2
