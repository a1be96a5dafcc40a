import math

import numpy as np
import pytest
from batches import EXACT, prob_batches, quiet
from hypothesis import given, settings
from sklearn import metrics as oracle

from recog.evaluation.measures.counts import ClassCounts, confusion_matrix, matthews, micro_mean


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
