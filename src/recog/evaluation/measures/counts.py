"""Measures that count right and wrong answers: all of them follow from the confusion matrix [K, K].

Where scikit-learn has a measure, the value is scikit-learn's. The one difference is in what has no value:
scikit-learn fills in 0 with a warning; here it is undefined (NaN, in JSON null), so that nobody reads a 0
that was never measured.

- A class absent in truth: its precision, recall and F1 are undefined, and every mean leaves it out.
- A class present in truth but never predicted: its recall and F1 are 0, its precision (0 of 0) is undefined.
  In the means of precision it counts as 0, as in scikit-learn: left out, a network would gain by never naming
  a class that it finds hard.
- A class that all images are of: its specificity (0 of 0) is undefined.

- The micro means count all classes' answers at once. Where each image has one label and one answer, a wrong answer is
  one class's false alarm and another's miss, so micro-averaged precision, recall and F1 all equal the accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.arrays import FloatArray, IntArray, check_labels, check_logits
from recog.evaluation.measures.multilabel import BoolArray


@dataclass(frozen=True, kw_only=True)
class ClassMeasures:
    """Per class, in label order: rates float64 [K] in [0, 1], NaN where undefined; counts int64 [K]."""

    precision: NDArray[np.float64]  # share of the images called this class that are of it
    recall: NDArray[np.float64]  # share of the images of this class that are called so
    f1: NDArray[np.float64]  # 2 TP / (2 TP + FP + FN), the harmonic mean of the two
    specificity: NDArray[np.float64]  # share of the images of other classes that are not called this class
    support: NDArray[np.int64]  # images of this class
    num_predicted: NDArray[np.int64]  # images called this class
    num_correct: NDArray[np.int64]  # both


@dataclass(frozen=True, kw_only=True)
class MeanMeasures:
    """Means of the per-class rates over the classes present in truth; fractions in [0, 1], 1 is best."""

    precision: float
    recall: float
    f1: float


def confusion_matrix(probs: FloatArray, labels: IntArray) -> NDArray[np.int64]:
    """Counts int64 [K, K]: row = true class, column = predicted class, sum = N.

    `probs` float [N, K] may as well be logits: only the largest of each row counts, among equals the first.
    """
    check_logits(probs, "probs")
    num_images, num_classes = probs.shape
    check_labels(labels, num_images, num_classes)
    cells = labels.astype(np.int64) * num_classes + probs.argmax(axis=1)
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def accuracy(probs: FloatArray, labels: IntArray) -> float:
    """Share of the N images whose largest of `probs` (or logits) [N, K] is at `labels` int [N]; 1 is best."""
    return accuracy_of(confusion_matrix(probs, labels))


def balanced_accuracy(probs: FloatArray, labels: IntArray) -> float:
    """Mean recall of the classes present in `labels`: a rare class weighs as much as a common one. 1 is best.

    Brodersen et al. (2010), ICPR, for two classes; for K classes as in scikit-learn. `probs` may be logits.
    """
    return macro_mean(class_measures(confusion_matrix(probs, labels))).recall


def accuracy_of(confusion: NDArray[np.int64]) -> float:
    """Accuracy from the counts [K, K]."""
    return int(np.trace(confusion)) / int(confusion.sum())


def class_measures(confusion: NDArray[np.int64]) -> ClassMeasures:
    """Precision, recall and F1 of each class from the counts [K, K]; the module says what is undefined."""
    num_correct = np.diagonal(confusion).astype(np.int64)
    support = confusion.sum(axis=1, dtype=np.int64)
    num_predicted = confusion.sum(axis=0, dtype=np.int64)
    present = support > 0
    num_others = support.sum() - support
    num_false_alarms = num_predicted - num_correct
    return ClassMeasures(
        precision=_divide(num_correct, num_predicted, present & (num_predicted > 0)),
        recall=_divide(num_correct, support, present),
        f1=_divide(2 * num_correct, support + num_predicted, present),  # TP + FN = support, TP + FP = predicted
        specificity=_divide(num_others - num_false_alarms, num_others, num_others > 0),
        support=support,
        num_predicted=num_predicted,
        num_correct=num_correct,
    )


def macro_mean(measures: ClassMeasures) -> MeanMeasures:
    """Every class present in truth weighs the same."""
    return _mean(measures, weights=(measures.support > 0).astype(np.float64))


def weighted_mean(measures: ClassMeasures) -> MeanMeasures:
    """Every class weighs as many images as it has; the weighted recall is the accuracy."""
    return _mean(measures, weights=measures.support.astype(np.float64))


def micro_mean(measures: ClassMeasures) -> MeanMeasures:
    """All classes' answers counted at once: of one label and one answer an image, all three are the accuracy."""
    right, said, true = (int(n.sum()) for n in (measures.num_correct, measures.num_predicted, measures.support))
    return MeanMeasures(precision=right / said, recall=right / true, f1=2 * right / (said + true))


def matthews(confusion: NDArray[np.int64]) -> float:
    """Matthews correlation R_K between truth and answer, from the counts [K, K]: 1 is best, 0 is chance, at worst -1.

    The covariance of the two one-hot codings over the root of their variances. NaN where all images are of one class or
    all answers are one class: what does not vary correlates with nothing. Two classes: Matthews (1975), Biochimica et
    Biophysica Acta 405(2); K classes: Gorodkin (2004), Computational Biology and Chemistry 28(5-6).
    """
    # Python's whole numbers: squares of n neither round nor overflow
    support: list[int] = confusion.sum(axis=1, dtype=np.int64).tolist()
    num_predicted: list[int] = confusion.sum(axis=0, dtype=np.int64).tolist()
    num_images, num_correct = sum(support), int(np.trace(confusion))
    covariance = num_correct * num_images - sum(t * p for t, p in zip(support, num_predicted, strict=True))
    truth_variance = num_images**2 - sum(t * t for t in support)
    answer_variance = num_images**2 - sum(p * p for p in num_predicted)
    if truth_variance == 0 or answer_variance == 0:
        return nan
    return covariance / sqrt(truth_variance * answer_variance)


def most_confused(confusion: NDArray[np.int64], limit: int) -> list[tuple[int, int, int]]:
    """Up to `limit` of (true class, predicted class, count), most frequent first, then in label order."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    counts = wrong[rows, columns]
    order = np.argsort(-counts, kind="stable")[:limit]
    return [(int(rows[i]), int(columns[i]), int(counts[i])) for i in order]


def _divide(
    numerator: NDArray[np.int64], denominator: NDArray[np.int64], defined: NDArray[np.bool_]
) -> NDArray[np.float64]:
    rates = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=rates, where=defined)
    return rates


def _mean(measures: ClassMeasures, weights: NDArray[np.float64]) -> MeanMeasures:
    share = weights / weights.sum()
    return MeanMeasures(
        precision=float(share @ np.nan_to_num(measures.precision)),
        recall=float(share @ np.nan_to_num(measures.recall)),
        f1=float(share @ np.nan_to_num(measures.f1)),
    )


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Per label, int64 [K]."""

    both: NDArray[np.int64]  # shown and said
    said: NDArray[np.int64]
    shown: NDArray[np.int64]
    num_images: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """Float64 [K]: of the images that the label was said of, the share that shows it; NaN where it is never said or shown."""
        return _share(self.both, np.where(self.shown > 0, self.said, 0))

    @property
    def recall(self) -> NDArray[np.float64]:
        return _share(self.both, self.shown)

    @property
    def f1(self) -> NDArray[np.float64]:
        return _share(2 * self.both, np.where(self.shown > 0, self.said + self.shown, 0))

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Float64 [K]: of the images without the label, the share that it was not said of."""
        others = self.num_images - self.shown
        return _share(others - (self.said - self.both), others)


def count_labels(decisions: BoolArray, targets: BoolArray) -> LabelCounts:
    return LabelCounts(
        both=(decisions & targets).sum(axis=0),
        said=decisions.sum(axis=0),
        shown=targets.sum(axis=0),
        num_images=len(targets),
    )


def macro_means(counts: LabelCounts) -> MeanMeasures:
    """Mean over the labels that images show, each alike; a label that is never said counts with a precision of 0."""
    return _weighed(counts, (counts.shown > 0).astype(np.float64))


def weighted_means(counts: LabelCounts) -> MeanMeasures:
    """Mean over the labels, each weighted by the images that show it."""
    return _weighed(counts, counts.shown.astype(np.float64))


def micro_means(counts: LabelCounts) -> MeanMeasures:
    """Over all pairs of an image and a label at once; NaN where none is said, none is shown, or neither."""
    both, said, shown = int(counts.both.sum()), int(counts.said.sum()), int(counts.shown.sum())
    return MeanMeasures(
        precision=both / said if said else float("nan"),
        recall=both / shown if shown else float("nan"),
        f1=2 * both / (said + shown) if said + shown else float("nan"),
    )


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share


def _weighed(counts: LabelCounts, weights: NDArray[np.float64]) -> MeanMeasures:
    if not weights.any():
        return MeanMeasures(precision=float("nan"), recall=float("nan"), f1=float("nan"))
    present = weights > 0
    means = (
        float(np.average(np.nan_to_num(rates[present]), weights=weights[present]))
        for rates in (counts.precision, counts.recall, counts.f1)
    )
    precision, recall, f1 = means
    return MeanMeasures(precision=precision, recall=recall, f1=f1)
