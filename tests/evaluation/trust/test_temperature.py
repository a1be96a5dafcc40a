import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from recog.core.errors import DataError
from recog.evaluation.measures.probability import ece_equal_width, nll, softmax
from recog.evaluation.trust.scaling import fit_temperature, scale_logits


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


def test_by_hand():
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


def test_bad_logits_are_refused():
    with pytest.raises(DataError, match="NaN"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))
