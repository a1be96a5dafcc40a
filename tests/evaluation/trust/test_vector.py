import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from recog.core.errors import DataError
from recog.evaluation.measures.probability import log_softmax, nll, softmax
from recog.evaluation.trust.scaling import fit_temperature, fit_vector, scale_by_class


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
def test_equal_to_netcal(seed):
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


def test_bad_logits_are_refused():
    with pytest.raises(DataError, match="NaN"):
        fit_vector(np.array([[np.nan, 0.0]]), np.array([0]))
