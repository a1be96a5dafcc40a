import math

import numpy as np
import pytest
from batches import EXACT, prob_batches, quiet
from hypothesis import given, settings
from sklearn import metrics as oracle

from recog.core.errors import DataError
from recog.evaluation.measures.probability import auroc, average_precision, mean_of_defined, num_in_top


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


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="NaN"):
        num_in_top(np.array([[np.nan, 0.0]]), np.array([0]), 1)
    with pytest.raises(DataError, match="outside"):
        num_in_top(np.array([[0.5, 0.5]]), np.array([2]), 1)
