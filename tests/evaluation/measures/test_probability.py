import math
from fractions import Fraction

import numpy as np
import pytest
from batches import EXACT, prob_batches, quiet
from hypothesis import given, settings
from sklearn import metrics as oracle

from recog.core.errors import DataError
from recog.evaluation.measures.probability import (
    auroc,
    average_precision,
    brier_score,
    classwise_ece,
    ece_equal_mass,
    ece_equal_width,
    equal_width_bins,
    mean_of_defined,
    num_in_top,
)


def naive_ece(confidence, is_correct, bin_of, num_bins=15):
    """Guo et al.'s formula word by word: sum over bins of n_b / n * |accuracy_b - confidence_b|."""
    total = 0.0
    for b in range(num_bins):
        inside = [i for i in range(len(confidence)) if bin_of(i) == b]
        if inside:
            accuracy = sum(bool(is_correct[i]) for i in inside) / len(inside)
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


def width_bin(value, num_bins=15):
    """The b with b / num_bins < value <= (b + 1) / num_bins, edges as floating numbers; 0 in the first."""
    return next(b for b in range(num_bins) if value <= (b + 1) / num_bins)


@settings(deadline=None, max_examples=200)
@given(prob_batches())
def test_brier_equals_scikit_learn(batch):
    probs, labels = batch
    expected = oracle.brier_score_loss(labels, probs, labels=range(probs.shape[1]), scale_by_half=False)
    assert brier_score(probs, labels) == pytest.approx(expected, **EXACT)


@settings(deadline=None, max_examples=200)
@given(prob_batches())
def test_ece_equals_the_formula_word_by_word(batch):
    probs, labels = batch
    confidence, is_correct = probs.max(axis=1), probs.argmax(axis=1) == labels
    n = len(labels)
    by_width = naive_ece(confidence, is_correct, lambda i: width_bin(confidence[i]))
    assert ece_equal_width(probs, labels) == pytest.approx(by_width, **EXACT)
    below = [sum(other < value for other in confidence) for value in confidence]
    by_mass = naive_ece(confidence, is_correct, lambda i: int(Fraction(int(below[i]) * 15, n)))
    assert ece_equal_mass(probs, labels) == pytest.approx(by_mass, **EXACT)
    by_class = [
        naive_ece(probs[:, c], labels == c, lambda i, c=c: width_bin(probs[i, c])) for c in range(probs.shape[1])
    ]
    assert classwise_ece(probs, labels) == pytest.approx(np.mean(by_class), **EXACT)


@settings(deadline=None)
@given(prob_batches())
def test_the_order_of_the_images_does_not_matter(batch):
    probs, labels = batch
    order = np.random.default_rng(0).permutation(len(labels))
    for measure in (brier_score, ece_equal_width, ece_equal_mass, classwise_ece):
        assert measure(probs[order], labels[order]) == pytest.approx(measure(probs, labels), abs=1e-12)


def test_brier_by_hand():
    assert brier_score(np.array([[0.5, 0.5]]), np.array([1])) == pytest.approx(0.5)  # 0.25 + 0.25
    assert brier_score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])) == pytest.approx(1.0)  # (0 + 2) / 2
    # (0.7 - 1)^2 + 0.2^2 + 0.1^2
    assert brier_score(np.array([[0.7, 0.2, 0.1]]), np.array([0])) == pytest.approx(0.14)


def test_ece_by_hand():
    # Two bins: confidences 0.6, 0.8, 0.9 lie above 1/2, one of three right: |1/3 - 2.3/3|; 0.5 lies in the lower, right.
    probs = np.array([[0.6, 0.4], [0.8, 0.2], [0.1, 0.9], [0.5, 0.5]])
    labels = np.array([0, 1, 0, 0])
    assert ece_equal_width(probs, labels, 2) == pytest.approx((1.3 + 0.5) / 4)
    # Equal mass: {0.5, 0.6} both right: |2 - 1.1|; {0.8, 0.9} both wrong: 1.7
    assert ece_equal_mass(probs, labels, 2) == pytest.approx((0.9 + 1.7) / 4)
    # Per class, upper bin (0.5, 1]: class 0 has 0.6 true, 0.8 not: |1.4 - 1|; lower: 0.1 true, 0.5 true: |0.6 - 2|.
    # Class 1, upper: 0.9 not: 0.9; lower: 0.4 not, 0.2 true, 0.5 not: |1.1 - 1|.
    assert classwise_ece(probs, labels, 2) == pytest.approx((0.4 + 1.4 + 0.9 + 0.1) / 8)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    probs = np.array([[1.0, 0.0], [0.0, 1.0]])
    for ece in (ece_equal_width, ece_equal_mass, classwise_ece):
        assert ece(probs, np.array([0, 1])) == 0.0
        assert ece(probs, np.array([1, 0])) == 1.0


def test_equal_mass_keeps_equal_confidences_together():
    probs = np.tile([[0.7, 0.3]], (30, 1))
    labels = np.repeat([0, 1], 15)
    for order in (slice(None), slice(None, None, -1)):
        assert ece_equal_mass(probs, labels[order]) == pytest.approx(0.2)  # one bin: |0.5 - 0.7|


def test_a_bin_has_its_upper_edge():
    assert equal_width_bins(np.array([0.0, 1 / 15, 1 / 15 + 1e-12, 14 / 15, 1.0])).tolist() == [0, 0, 1, 13, 14]


@pytest.mark.parametrize("measure", [brier_score, ece_equal_width, ece_equal_mass, classwise_ece])
def test_bad_input_is_refused(measure):
    with pytest.raises(DataError, match="NaN"):
        measure(np.array([[np.nan, 0.0]]), np.array([0]))
    with pytest.raises(DataError, match="outside"):
        measure(np.array([[0.5, 0.5]]), np.array([2]))


def one_hot(probs, labels):
    return np.eye(probs.shape[1], dtype=bool)[labels]


@settings(deadline=None, max_examples=200)
@given(prob_batches())
def test_one_vs_rest_equals_scikit_learn(batch):
    probs, labels = batch
    for name, values in (
        ("roc_auc_score", auroc(probs, one_hot(probs, labels))),
        ("average_precision_score", average_precision(probs, one_hot(probs, labels))),
    ):
        for c, value in enumerate(values):
            is_class = labels == c
            if is_class.all() or not is_class.any():
                assert math.isnan(value)
            else:
                assert value == pytest.approx(getattr(oracle, name)(is_class, probs[:, c]), **EXACT)


@settings(deadline=None)
@given(prob_batches())
def test_macro_auroc_equals_scikit_learn(batch):
    probs, labels = batch
    num_classes = probs.shape[1]
    if num_classes > 2 and len(set(labels)) == num_classes:
        expected = oracle.roc_auc_score(labels, probs, multi_class="ovr", average="macro")
        assert mean_of_defined(auroc(probs, one_hot(probs, labels))) == pytest.approx(expected, **EXACT)


@settings(deadline=None)
@given(prob_batches())
def test_top_k_equals_scikit_learn(batch):
    probs, labels = batch
    probs = probs + np.random.default_rng(0).random(probs.shape) * 1e-9  # no ties: scikit-learn lets the last class win
    for k in range(1, probs.shape[1] + 1):
        with quiet():
            expected = oracle.top_k_accuracy_score(
                labels, probs if probs.shape[1] > 2 else probs[:, 1] - 0.5, k=k, labels=range(probs.shape[1])
            )
        if probs.shape[1] > 2:  # its binary form thresholds a score instead
            assert num_in_top(probs, labels, k) / len(labels) == pytest.approx(expected, **EXACT)
    assert num_in_top(probs, labels, probs.shape[1]) == len(labels)
    assert num_in_top(probs, labels, 1) == (probs.argmax(axis=1) == labels).sum()


def test_auroc_by_hand():
    # Class 1 against the rest: positives 0.8, 0.4; others 0.4, 0.1, 0.6. Pairs won: 3 + (1 + 1/2) of 6.
    p = np.array([0.8, 0.4, 0.4, 0.1, 0.6])
    values = auroc(np.stack([1 - p, p], axis=1), np.eye(2, dtype=bool)[[1, 1, 0, 0, 0]])
    assert values == pytest.approx([4.5 / 6, 4.5 / 6])  # two classes: the same pairs, both ways round


def test_average_precision_by_hand():
    # Falling: 0.8 (a hit: precision 1/1), 0.6 (none), 0.4 twice, one hit: 2 of 4 on recall 2/2. (1 + 2/4) / 2.
    p = np.array([0.8, 0.4, 0.4, 0.1, 0.6])
    values = average_precision(np.stack([1 - p, p], axis=1), np.eye(2, dtype=bool)[[1, 1, 0, 0, 0]])
    assert values[1] == pytest.approx(0.75)
    # Class 0, falling in 1 - p: 0.9 hit 1/1; 0.6 twice, one hit: 2 of 3; 0.4 hit: 3 of 4. (1 + 2/3 + 3/4) / 3.
    assert values[0] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_all_tied_is_chance():
    probs, labels = np.full((4, 2), 0.5), np.array([0, 1, 1, 1])
    assert auroc(probs, one_hot(probs, labels)) == pytest.approx([0.5, 0.5])
    assert average_precision(probs, one_hot(probs, labels)) == pytest.approx([1 / 4, 3 / 4])


def test_an_absent_class_and_one_that_is_alone_have_no_order():
    probs, labels = np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1])
    assert np.isnan(auroc(probs, one_hot(probs, labels))).all()
    assert np.isnan(average_precision(probs, one_hot(probs, labels))).all()
    assert math.isnan(mean_of_defined(auroc(probs, one_hot(probs, labels))))
    assert mean_of_defined(np.array([math.nan, 0.5, 0.7])) == pytest.approx(0.6)


def test_top_k_by_hand():
    probs = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.3, 0.3, 0.3]])
    # Image 0 is of class 2, third. Image 1 is of class 2, after class 1, its equal.
    assert [num_in_top(probs, np.array([2, 2]), k) for k in (1, 2, 3, 4)] == [0, 1, 2, 2]


def test_ranking_refuses_bad_input():
    with pytest.raises(DataError, match="NaN"):
        num_in_top(np.array([[np.nan, 0.0]]), np.array([0]), 1)
    with pytest.raises(DataError, match="outside"):
        num_in_top(np.array([[0.5, 0.5]]), np.array([2]), 1)
