import math

import numpy as np
import pytest
from batches import EXACT, prob_batches, quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as oracle

from recog.core.errors import DataError
from recog.evaluation.measures.counts import ClassCounts, confusion_matrix, matthews, micro_mean, wilson_interval


@settings(deadline=None, max_examples=200)
@given(prob_batches())
def test_matthews_equals_scikit_learn(batch):
    probs, labels = batch
    preds = probs.argmax(axis=1)
    value = matthews(confusion_matrix(probs, labels))
    with quiet():
        expected = oracle.matthews_corrcoef(labels, preds)
    if len(set(labels)) == 1 or len(set(preds)) == 1:
        assert math.isnan(value)  # scikit-learn fills in 0
        assert expected == 0
    else:
        assert value == pytest.approx(expected, **EXACT)


@settings(deadline=None, max_examples=200)
@given(prob_batches())
def test_specificity_equals_scikit_learn(batch):
    """The specificity of a class is the recall of 'not this class' in the table of one against the rest."""
    probs, labels = batch
    num_classes = probs.shape[1]
    tables = oracle.multilabel_confusion_matrix(labels, probs.argmax(axis=1), labels=range(num_classes))
    specificity = ClassCounts.of_confusion(confusion_matrix(probs, labels)).specificity
    for value, ((tn, fp), _) in zip(specificity, tables, strict=True):
        assert value == pytest.approx(tn / (tn + fp) if tn + fp else math.nan, nan_ok=True, **EXACT)


def test_matthews_by_hand():
    # Two classes: (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) = (3*4 - 1*2) / sqrt(4 * 5 * 5 * 6)
    assert matthews(np.array([[4, 1], [2, 3]])) == pytest.approx(10 / math.sqrt(600))
    # Three classes, n = 6, 5 right, support 2 2 2, called 3 2 1: (5*6 - (6 + 4 + 2)) / sqrt((36 - 12) (36 - 14))
    assert matthews(np.array([[2, 0, 0], [0, 2, 0], [1, 0, 1]])) == pytest.approx(18 / math.sqrt(24 * 22))
    assert matthews(np.diag([3, 4, 5])) == 1.0
    assert matthews(np.array([[0, 7], [7, 0]])) == -1.0
    assert matthews(np.full((3, 3), 5)) == 0.0


def test_matthews_of_large_counts_does_not_overflow():
    assert matthews(np.diag([3_000_000_000, 1_000_000_000])) == 1.0


def test_specificity_by_hand():
    # Class 0 is wrongly named for 2 of the 4 images of others; class 1 for 1 of 6; class 2, absent, for 1 of all 7;
    # class 3 never.
    confusion = np.array([[1, 1, 1, 0], [0, 1, 0, 0], [0] * 4, [2, 0, 0, 1]])
    assert ClassCounts.of_confusion(confusion).specificity == pytest.approx([2 / 4, 5 / 6, 6 / 7, 1.0])


def test_a_class_that_all_images_are_of_has_no_specificity():
    specificity = ClassCounts.of_confusion(np.array([[3, 1], [0, 0]])).specificity
    assert specificity == pytest.approx([math.nan, 3 / 4], nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_the_micro_means_are_scikit_learns_and_all_of_them_the_accuracy(seed):
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(seed)
    labels, preds = rng.integers(0, 4, 50), rng.integers(0, 5, 50)  # class 4 is absent in truth
    confusion = np.zeros((5, 5), dtype=np.int64)
    np.add.at(confusion, (labels, preds), 1)
    means = micro_mean(ClassCounts.of_confusion(confusion))
    theirs = precision_recall_fscore_support(labels, preds, labels=range(5), average="micro", zero_division=0)[:3]
    assert (means.precision, means.recall, means.f1) == pytest.approx(theirs, abs=1e-9)
    assert means.precision == means.recall == means.f1 == pytest.approx((labels == preds).mean())


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
