import json

import numpy as np
import pytest
from batches import prob_batches
from hypothesis import given, settings

from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.measures.probability import confidence_of, ece_equal_width
from recog.evaluation.results.scores import (
    THRESHOLDS,
    cuts_at,
    ece_of,
    parse_bins,
    parse_cuts,
    reliability_bins,
    risk_coverage,
)

CONFIDENCE = np.array([0.95, 0.9, 0.9, 0.6, 0.3])
IS_CORRECT = np.array([True, False, True, False, False])


@settings(deadline=None)
@given(prob_batches())
def test_bins_hold_every_image_and_the_ece_follows(batch):
    confidence, is_correct = confidence_of(*batch)
    bins = reliability_bins(confidence, is_correct)
    assert len(bins) == 15
    for b in bins:
        inside = (confidence > b.low) & (confidence <= b.high) if b.low else confidence <= b.high
        assert (b.num_images, b.num_correct) == (inside.sum(), is_correct[inside].sum())
    assert ece_of(bins) == pytest.approx(ece_equal_width(*batch), abs=1e-12)
    rows = json.loads(json.dumps([b.to_dict() for b in bins]))
    assert parse_bins(rows, len(confidence), int(is_correct.sum())) == bins


@settings(deadline=None)
@given(prob_batches())
def test_cuts_count_what_is_at_least_so_sure(batch):
    confidence, is_correct = confidence_of(*batch)
    for cut in (*cuts_at(confidence, is_correct), *risk_coverage(confidence, is_correct)):
        taken = confidence >= cut.confidence
        assert (cut.num_automated, cut.num_errors) == (taken.sum(), (~is_correct[taken]).sum())
    rows = json.loads(json.dumps([cut.to_dict() for cut in cuts_at(confidence, is_correct)]))
    assert parse_cuts(rows, len(confidence), int((~is_correct).sum()), key="thresholds") == cuts_at(
        confidence, is_correct
    )


def test_cuts_by_hand():
    cuts = {cut.confidence: cut for cut in cuts_at(CONFIDENCE, IS_CORRECT)}
    assert tuple(cuts) == THRESHOLDS
    assert (cuts[0.0].share, cuts[0.0].error_rate) == (1.0, 0.6)
    assert (cuts[0.9].num_automated, cuts[0.9].share, cuts[0.9].num_errors) == (3, 0.6, 1)
    assert cuts[0.9].error_rate_ci95 == wilson_interval(1, 3)
    assert (cuts[0.99].num_automated, cuts[0.99].error_rate, cuts[0.99].error_rate_ci95) == (0, None, None)


def test_risk_coverage_by_hand():
    curve = risk_coverage(CONFIDENCE, IS_CORRECT)
    assert [(c.confidence, c.num_automated, c.num_errors) for c in curve] == [
        (0.95, 1, 0),
        (0.9, 3, 1),  # the two equals enter together
        (0.6, 4, 2),
        (0.3, 5, 3),
    ]


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends():
    confidence = np.linspace(0, 1, 10_001)
    curve = risk_coverage(confidence, confidence > 0.5)
    assert len(curve) == 100
    assert (curve[0].num_automated, curve[-1].num_automated) == (1, 10_001)
    assert max(np.diff([cut.share for cut in curve])) < 0.011


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_images": 3}, "every image once"),
        ({"num_correct": 9}, "impossible counts"),
        ({"mean_confidence": None}, "impossible counts"),
        ({"mean_confidence": 0.2}, "mean confidence of 0.2"),
    ],
)
def test_impossible_bins_are_refused(change, words):
    rows = [b.to_dict() for b in reliability_bins(CONFIDENCE, IS_CORRECT)]
    row = next(row for row in rows if row["num_images"] == 2)
    row |= change
    with pytest.raises(ValueError, match=words):
        parse_bins(rows, 5, 2)


@pytest.mark.parametrize("change", [{"num_automated": 6}, {"num_errors": -1}, {"num_errors": 4}, {"confidence": 7.0}])
def test_impossible_cuts_are_refused(change):
    row = cuts_at(CONFIDENCE, IS_CORRECT, [0.5])[0].to_dict() | change
    with pytest.raises(ValueError, match="impossible counts"):
        parse_cuts([row], 5, 3, key="thresholds")
