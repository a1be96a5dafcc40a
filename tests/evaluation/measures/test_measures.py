import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from recog.core.errors import DataError, ShapeError
from recog.evaluation.measures.arrays import check_labels, check_logits
from recog.evaluation.measures.counts import (
    ClassCounts,
    accuracy_of,
    confusion_matrix,
    macro_mean,
    most_confused,
    weighted_mean,
)
from recog.evaluation.measures.probability import log_softmax, nll, softmax

EXACT = {"rel": 1e-12, "abs": 1e-12}


@st.composite
def batches(draw):
    """(logits [N, K], labels [N]) with few images, so that absent and never predicted classes are common."""
    num_images, num_classes = draw(st.integers(1, 40)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        labels = np.full(num_images, rng.integers(num_classes))  # a batch of one class
    else:
        labels = rng.integers(0, draw(st.integers(1, num_classes)), num_images)
    logits = rng.normal(0, draw(st.sampled_from([0.1, 1, 10])), (num_images, num_classes))
    return logits.astype(draw(st.sampled_from([np.float32, np.float64]))), labels


def accuracy(probs, labels):
    return accuracy_of(confusion_matrix(probs, labels))


def balanced_accuracy(probs, labels):
    return macro_mean(ClassCounts.of_confusion(confusion_matrix(probs, labels))).recall


def oracle_rates(truth, preds, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its note that 0/0 was filled in
        return oracle.precision_recall_fscore_support(truth, preds, **options)


@settings(deadline=None, max_examples=200)
@given(batches())
def test_equals_scikit_learn(batch):
    logits, labels = batch
    num_classes = logits.shape[1]
    everything = list(range(num_classes))
    preds = logits.argmax(axis=1)
    confusion = confusion_matrix(logits, labels)
    measures = ClassCounts.of_confusion(confusion)

    assert (confusion == oracle.confusion_matrix(labels, preds, labels=everything)).all()
    assert accuracy(logits, labels) == pytest.approx(oracle.accuracy_score(labels, preds), **EXACT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its note that some predictions are of classes absent in truth
        expected = oracle.balanced_accuracy_score(labels, preds)
    assert balanced_accuracy(logits, labels) == pytest.approx(expected, **EXACT)

    precision, recall, f1, support = oracle_rates(labels, preds, labels=everything, zero_division=0)
    present, predicted = support > 0, np.bincount(preds, minlength=num_classes) > 0
    assert (measures.support == support).all()
    assert measures.recall[present] == pytest.approx(recall[present], **EXACT)
    assert measures.f1[present] == pytest.approx(f1[present], **EXACT)
    assert measures.precision[present & predicted] == pytest.approx(precision[present & predicted], **EXACT)
    assert np.isnan(measures.precision[~(present & predicted)]).all()
    assert np.isnan(measures.recall[~present]).all()
    assert np.isnan(measures.f1[~present]).all()

    for average, mean in [("macro", macro_mean(measures)), ("weighted", weighted_mean(measures))]:
        there = np.flatnonzero(present)  # the means are over the classes present
        expected = oracle_rates(labels, preds, labels=there, average=average, zero_division=0)[:3]
        assert (mean.precision, mean.recall, mean.f1) == pytest.approx(expected, **EXACT)


@settings(deadline=None)
@given(batches())
def test_nll_equals_scikit_learn(batch):
    logits, labels = batch
    probs = softmax(logits)
    tiny = np.finfo(np.float64).eps  # scikit-learn clips below this, where the logits still know better
    if (probs[np.arange(len(labels)), labels] > tiny).all():
        expected = oracle.log_loss(labels, probs, labels=range(logits.shape[1]))
        assert nll(logits, labels) == pytest.approx(expected, **EXACT)


@settings(deadline=None)
@given(batches())
def test_softmax_is_a_distribution_that_ignores_a_shift(batch):
    logits, _ = batch
    probs = softmax(logits)
    assert probs.dtype == np.float64
    assert probs.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    assert (probs >= 0).all()
    assert softmax(logits.astype(np.float64) + 1000) == pytest.approx(probs, abs=1e-9)
    assert np.exp(log_softmax(logits)) == pytest.approx(probs, abs=1e-14)


def test_softmax_by_hand():
    # exp(0) : exp(ln 3) = 1 : 3
    logits = np.array([[0.0, math.log(3)], [1000.0, 1000.0], [-1e4, 1e4]])
    assert softmax(logits) == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]), abs=1e-15)


def test_softmax_keeps_float16_finite():
    assert softmax(np.array([[60000.0, -60000.0]], dtype=np.float16)).tolist() == [[1.0, 0.0]]


def test_nll_by_hand():
    # An even guess over 4 classes costs ln 4 whatever the label; 3/4 on the right class costs ln(4/3).
    assert nll(np.zeros((3, 4)), np.array([0, 1, 3])) == pytest.approx(math.log(4), abs=1e-15)
    assert nll(np.array([[0.0, math.log(3)]]), np.array([1])) == pytest.approx(math.log(4 / 3), abs=1e-15)
    # A sure, wrong answer: the gap of the logits, where a probability would have become 0.
    assert nll(np.array([[0.0, 2000.0]], dtype=np.float32), np.array([0])) == pytest.approx(2000)


def test_nll_of_a_perfect_answer_is_plain_zero():
    assert str(nll(np.array([[0.0, 2000.0]]), np.array([1]))) == "0.0"


def one_hot(preds, num_classes):
    return np.eye(num_classes)[preds]


def test_rates_by_hand():
    # Class 0: 3 images, called 0, 0, 1. Class 1: 2 images, called 1, 0. Class 2: no image, never called.
    # Class 3: 1 image, called 4. Class 4: no image, called once.
    labels = np.array([0, 0, 0, 1, 1, 3])
    preds = np.array([0, 0, 1, 1, 0, 4])
    probs = one_hot(preds, 5)
    confusion = confusion_matrix(probs, labels)
    assert confusion.tolist() == [[2, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [0, 0, 0, 0, 1], [0] * 5]
    measures = ClassCounts.of_confusion(confusion)
    undefined = math.nan
    assert measures.support.tolist() == [3, 2, 0, 1, 0]
    assert measures.num_predicted.tolist() == [3, 2, 0, 0, 1]
    assert measures.num_correct.tolist() == [2, 1, 0, 0, 0]
    # Class 3 is present and never called: precision is 0 of 0. Class 4 is absent: nothing is defined.
    assert measures.precision == pytest.approx([2 / 3, 1 / 2, undefined, undefined, undefined], nan_ok=True)
    assert measures.recall == pytest.approx([2 / 3, 1 / 2, undefined, 0, undefined], nan_ok=True)
    # 2 TP / (support + called): 4/6, 2/4, 0/1
    assert measures.f1 == pytest.approx([2 / 3, 1 / 2, undefined, 0, undefined], nan_ok=True)
    # Means over the present classes 0, 1, 3; the undefined precision of class 3 counts as 0.
    macro, weighted = macro_mean(measures), weighted_mean(measures)
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx((7 / 18,) * 3)  # (2/3 + 1/2 + 0) / 3
    assert (weighted.precision, weighted.recall, weighted.f1) == pytest.approx((1 / 2,) * 3)  # (3*2/3 + 2*1/2) / 6
    assert accuracy(probs, labels) == accuracy_of(confusion) == 0.5
    assert balanced_accuracy(probs, labels) == pytest.approx(7 / 18)


def test_one_class_batch_by_hand():
    # Three images of class 1, two of them called 1: recall 2/3, precision 2/2, F1 4/5; class 0 is absent.
    labels, probs = np.array([1, 1, 1]), one_hot([1, 0, 1], 2)
    measures = ClassCounts.of_confusion(confusion_matrix(probs, labels))
    assert measures.precision == pytest.approx([math.nan, 1.0], nan_ok=True)
    assert measures.f1 == pytest.approx([math.nan, 0.8], nan_ok=True)
    assert balanced_accuracy(probs, labels) == accuracy(probs, labels) == pytest.approx(2 / 3)
    assert macro_mean(measures).f1 == pytest.approx(0.8)


def test_a_tie_goes_to_the_first_class():
    assert accuracy(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1])) == 0.5


def test_small_label_types_do_not_overflow():
    labels = np.full(3, 200, dtype=np.uint8)  # 200 * 201 does not fit uint8
    assert confusion_matrix(one_hot([200, 200, 0], 201), labels)[200, [0, 200]].tolist() == [1, 2]


def test_most_confused_in_order():
    confusion = np.array([[9, 1, 4], [4, 9, 0], [0, 7, 0]])
    assert most_confused(confusion, 3) == [(2, 1, 7), (0, 2, 4), (1, 0, 4)]
    assert most_confused(confusion, 10)[-1] == (0, 1, 1)
    assert most_confused(np.eye(3, dtype=np.int64), 3) == []
    assert confusion[0, 0] == 9  # lent, and given back as found


GOOD = np.zeros((2, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("logits", "error", "words"),
    [
        ([[0.0, 1.0]], ShapeError, "logits are list; expected a floating NumPy array"),
        (np.zeros((2, 3), dtype=np.int64), ShapeError, "logits are int64"),
        (np.zeros(3), ShapeError, r"shape \(3,\).*logits\[None\]"),
        (np.zeros((2, 1)), ShapeError, "expected at least 2. A single logit"),
        (np.zeros((0, 3)), DataError, "0 images"),
        (
            np.array([[0.0, 1.0], [np.nan, 0.0]]),
            DataError,
            "1 of 2 images are NaN or infinite, first in row 1",
        ),
        (np.array([[np.inf, 1.0], [0.0, 0.0]]), DataError, "first in row 0"),
    ],
)
def test_bad_logits(logits, error, words):
    for function in (check_logits, softmax, log_softmax):
        with pytest.raises(error, match=words):
            function(logits)


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ([0, 1], ShapeError, "labels are list"),
        (np.array([0.0, 1.0]), ShapeError, "labels are float64"),
        (np.array([True, False]), ShapeError, "labels are bool"),
        (np.array([0]), ShapeError, r"labels have shape \(1,\); expected \(2,\)"),
        (np.array([0, 3]), DataError, r"label 3 in row 1 is outside 0\.\.2"),
        (np.array([-1, 0]), DataError, "label -1 in row 0"),
    ],
)
def test_bad_labels(labels, error, words):
    with pytest.raises(error, match=words):
        check_labels(labels, 2, 3)
    for function in (nll, accuracy, balanced_accuracy, confusion_matrix):
        with pytest.raises(error, match=words):
            function(GOOD, labels)
