import math
from types import SimpleNamespace

import numpy as np
import pytest

from recog.core.errors import BundleError
from recog.evaluation.measures.resampling import (
    CLASS_MEASURES,
    Bootstrap,
    ece_interval,
    joined,
    mean_of_defined_rows,
    percentile_interval,
    ratio,
    resampled_counts,
    unless_empty,
)
from recog.evaluation.results.report_format import parse_bootstrap

NAN = math.nan


def test_a_resample_draws_each_class_as_often_as_it_is_there():
    labels = np.repeat([0, 2, 5], [3, 40, 1])
    counts = np.concatenate(list(resampled_counts(labels, num_resamples=200, seed=0)), axis=1)
    for label, size in [(0, 3), (2, 40), (5, 1)]:
        assert (counts[labels == label].sum(axis=0) == size).all()
    # Each image is drawn once on average: 200 draws of Poisson-like counts have a mean within 0.35 of 1 (5 sigma).
    assert counts.mean(axis=1) == pytest.approx(1, abs=0.36)


def test_ece_interval_by_hand():
    # Without noise only the observed gaps themselves would give the observed ECE.
    gaps = np.array([0.1, -0.2])
    assert ece_interval(gaps, np.tile(gaps[:, None], 10)) == pytest.approx((0.3, 0.3))
    # One bin, gap 0.1, noise -0.4..0.4 evenly: |0.1 s + noise| is below or at 0.1 often enough for every s in [0, 2].
    noise = np.linspace(-0.4, 0.4, 801)
    assert ece_interval(np.array([0.1]), 0.1 + noise[None]) == pytest.approx((0.0, 0.2))
    # 200 bins with gaps of +-0.01 and as much noise: the ECE of 2 is what noise of deviation 0.01 * sqrt(pi / 2) makes of
    # true gaps of 0; all scales that are plausible lie below 1, and the interval still reaches the ECE of the sample.
    rng = np.random.default_rng(0)
    gaps = np.resize([0.01, -0.01], 200)
    low, high = ece_interval(gaps, gaps[:, None] + rng.normal(0, 0.0125, (200, 400)))
    assert (low, high) == pytest.approx((0.0, 2.0))


def test_percentiles_of_what_is_defined():
    # of 0, 1 ... 1000 the 2.5 % percentile is 25 and the 97.5 % one 975; NaN is of resamples that lack the measure
    assert percentile_interval(np.concatenate([np.arange(1001.0), [NAN] * 5])) == (25, 975)
    assert percentile_interval(np.arange(1001.0), 3) == (3, 975)  # widened to contain the estimate
    assert percentile_interval(np.arange(1001.0), 1000) == (25, 1000)
    assert percentile_interval(np.arange(1001.0), 500) == percentile_interval(np.arange(1001.0), NAN) == (25, 975)
    assert percentile_interval(np.full(10, 0.5)) is None
    assert percentile_interval(np.full(10, NAN)) is None
    assert (unless_empty((0.1, 0.2)), unless_empty((0.2, 0.2))) == ((0.1, 0.2), None)


def test_what_is_undefined_is_left_out_of_means():
    assert ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0])) == pytest.approx([0.5, NAN], nan_ok=True)
    rows = np.array([[0.2, NAN, NAN], [0.6, 0.5, NAN]])
    assert mean_of_defined_rows(rows) == pytest.approx([0.4, 0.5, NAN], nan_ok=True)


def test_chunks_are_joined_along_the_resamples():
    both = joined([{"a": np.ones(2), "k": np.ones((3, 2))}, {"a": np.zeros(1), "k": np.zeros((3, 1))}])
    assert both["a"].tolist() == [1, 1, 0]
    assert both["k"].shape == (3, 3)


def bootstrap():
    return Bootstrap(
        num_resamples=100,
        seed=3,
        intervals={"matthews": (-0.5, 0.5), "nll": (1.0, 7.0), "auroc": None},
        class_intervals=dict.fromkeys(CLASS_MEASURES, ((0.1, 0.2), None)),
    )


def rows():
    found = bootstrap().class_intervals.items()
    return [SimpleNamespace(**{f"{name}_ci95": row[k] for name, row in found}) for k in range(2)]


def test_round_trip():
    table = bootstrap().to_dict("by hand")
    assert (table["method"], table["num_resamples"], table["seed"]) == ("by hand", 100, 3)
    measures = tuple(bootstrap().intervals)
    assert parse_bootstrap(table, rows(), measures) == bootstrap()
    del table["nll_ci95"]
    with pytest.raises(BundleError, match="nll_ci95"):
        parse_bootstrap(table, rows(), measures)


@pytest.mark.parametrize(
    ("bounds", "error"), [([0.6, 0.5], ValueError), ([-2, 0.5], ValueError), (["a", 1], BundleError), (7, BundleError)]
)
def test_impossible_intervals_are_refused(bounds, error):
    table = bootstrap().to_dict("by hand") | {"matthews_ci95": bounds}
    with pytest.raises(error, match="matthews"):
        parse_bootstrap(table, rows(), ("matthews",))
