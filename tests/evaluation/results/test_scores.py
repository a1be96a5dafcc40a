import json

import numpy as np
import pytest
from batches import EXACT, prob_batches
from hypothesis import given, settings
from sklearn import metrics as oracle

from recog.core.errors import BundleError
from recog.evaluation.measures.bootstrap import MEASURES as ALL_MEASURES
from recog.evaluation.measures.counts import Hits, wilson_interval
from recog.evaluation.measures.probability import confidence_of, ece_equal_width, log_softmax, softmax
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.read import parse_report
from recog.evaluation.results.scores import (
    THRESHOLDS,
    cuts_at,
    ece_of,
    measure_scores,
    parse_bins,
    parse_cuts,
    parse_scores,
    reliability_bins,
    risk_coverage,
)

LOGITS = np.random.default_rng(0).normal(0, 1, (300, 7)) + 2 * np.eye(7)[np.arange(300) % 7]
LABELS = np.arange(300) % 7
REPORT = evaluate(
    LOGITS, LABELS, class_names="abcdefg", names=[str(i) for i in range(300)], data=DataFacts(name="letters")
)
SCORES = REPORT.scores
HITS = Hits(num_images=300, num_correct=int((LOGITS.argmax(axis=1) == LABELS).sum()))
MEASURES = ALL_MEASURES["multiclass"]


def table():
    return json.loads(json.dumps(REPORT.to_dict()))


def test_all_together_equal_scikit_learn():
    probs = softmax(LOGITS)
    assert SCORES.nll == pytest.approx(-log_softmax(LOGITS)[np.arange(300), LABELS].mean(), **EXACT)
    assert SCORES.brier == pytest.approx(oracle.brier_score_loss(LABELS, probs, scale_by_half=False), **EXACT)
    assert REPORT.auroc == pytest.approx(oracle.roc_auc_score(LABELS, probs, multi_class="ovr"), **EXACT)
    assert REPORT.average_precision == pytest.approx(oracle.average_precision_score(np.eye(7)[LABELS], probs), **EXACT)
    assert SCORES.top_k.accuracy == pytest.approx(oracle.top_k_accuracy_score(LABELS, probs, k=5), **EXACT)
    assert REPORT.num_ranked_classes == 7


def test_each_measure_lies_within_its_interval():
    values = {"nll": SCORES.nll, "brier": SCORES.brier, "ece": SCORES.ece, "auroc": REPORT.auroc}
    for name in MEASURES:
        low, high = REPORT.interval(name)
        assert low < values.get(name, (low + high) / 2) < high


def test_round_trip():
    assert parse_scores(table(), HITS) == SCORES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"brier": 3}, "'brier' is 3.0; it must lie between 0 and 2"),
        ({"nll": float("nan")}, "report.json: nll is out of the range of numbers"),
        (
            {"bootstrap": {"num_resamples": 1, "seed": 0} | {f"{name}_ci95": [0.9, 0.1] for name in MEASURES}},
            "lower and its upper",
        ),
        (
            {"bootstrap": {"num_resamples": 1, "seed": 0} | {f"{name}_ci95": [-3, 0.1] for name in MEASURES}},
            "must lie between 0",
        ),
    ],
)
def test_impossible_numbers_are_refused(change, words):
    with pytest.raises(BundleError, match=words):
        parse_report(table() | change)


def test_an_auroc_of_a_class_without_images_is_refused():
    changed = table()
    first, second, *others = changed["confusion"]
    changed["confusion"] = [[0] * 7, [a + b for a, b in zip(first, second, strict=True)], *others]
    with pytest.raises(BundleError, match="'auroc' of 'a' does not fit its 0 images"):
        parse_report(changed)


def test_the_order_of_images_does_not_change_the_nll():
    """Sums of floats depend on their order; math.fsum rounds once."""
    generator = np.random.default_rng(0)
    probs = generator.dirichlet(np.ones(3), 50)
    preds = probs == probs.max(axis=1, keepdims=True)
    labels = generator.integers(0, 3, 50)
    terms = -np.log(probs[np.arange(50), labels])
    orders = [generator.permutation(50) for _ in range(20)]
    assert len({float(terms[order].sum()) for order in orders}) > 1
    assert len({measure_scores(probs[order], preds[order], labels[order], terms[order]).nll for order in orders}) == 1


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
