import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from recog.core.errors import DataError
from recog.evaluation.measures.counts import wilson_interval

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(COUNTS, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_equals_scipy(counts, confidence):
    num_successes, num_trials = counts
    expected = binomtest(num_successes, num_trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(num_successes, num_trials, confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_published_value():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3 (Wilson's score, uncorrected):
    # 81 of 263 -> 0.2553 to 0.3662; 15 of 148 -> 0.0624 to 0.1605; 1 of 29 -> 0.0061 to 0.1718.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_no_success_by_hand():
    # At p = 0 centre and half width are both z^2/(2n) / (1 + z^2/n), so high is z^2 / (n + z^2).
    z = 1.959963984540054
    assert wilson_interval(0, 20) == (0.0, pytest.approx(z * z / (20 + z * z), abs=1e-15))


def test_half_by_hand():
    # With p = 1/2 the centre is 1/2, and the half width z / (2 sqrt(n + z^2)).
    z = 1.959963984540054
    half = z / (2 * math.sqrt(100 + z * z))
    assert wilson_interval(50, 100) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-15)


def test_nothing_tried_nothing_known():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@settings(deadline=None)
@given(COUNTS)
def test_holds_the_rate_within_0_and_1_and_mirrors(counts):
    k, n = counts
    low, high = wilson_interval(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0
    assert (low == 0.0) == (k == 0)
    assert (high == 1.0) == (k == n)
    assert wilson_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("num_successes", "num_trials"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts(num_successes, num_trials):
    with pytest.raises(DataError, match="successes of"):
        wilson_interval(num_successes, num_trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, float("nan")])
def test_impossible_confidence(confidence):
    with pytest.raises(DataError, match="confidence is"):
        wilson_interval(1, 2, confidence)
