"""Measures that count right and wrong predictions, of one label per image or of several, and Wilson's interval of a rate.

Where scikit-learn has a measure, the value is scikit-learn's. The one difference is in what has no value: scikit-learn fills
in 0 with a warning; here it is undefined (NaN, in JSON null), so that a missing value is not read as a measured 0.

- A class without an image: its precision, recall and F1 are undefined, and the macro and weighted means leave it out.
- A class with images that is never predicted: its recall and F1 are 0, its precision (0 of 0) is undefined. In the means of
  precision it counts as 0, as in scikit-learn: left out, a network would gain by never predicting a hard class.
- A class that all images are of: its specificity (0 of 0) is undefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.evaluation.measures.arrays import BoolArray, FloatArray, IntArray, check_labels, check_logits


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Per class, in label order: counts int64 [K]; rates float64 [K] in [0, 1], NaN where undefined (see the module)."""

    num_images: int
    support: NDArray[np.int64]  # images of this class
    num_predicted: NDArray[np.int64]  # images predicted to be of it
    num_correct: NDArray[np.int64]  # both

    @classmethod
    def of(cls, preds: BoolArray, is_class: BoolArray) -> ClassCounts:
        """From the predicted and the true classes of N images, bool [N, K]."""
        support, num_predicted, num_correct = (cells.sum(axis=0) for cells in (is_class, preds, preds & is_class))
        return cls(num_images=len(preds), support=support, num_predicted=num_predicted, num_correct=num_correct)

    @classmethod
    def of_confusion(cls, confusion: NDArray[np.int64]) -> ClassCounts:
        """From a confusion matrix [K, K]."""
        return cls(
            num_images=int(confusion.sum()),
            support=confusion.sum(axis=1, dtype=np.int64),
            num_predicted=confusion.sum(axis=0, dtype=np.int64),
            num_correct=np.diagonal(confusion).astype(np.int64),
        )

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the images predicted to be of this class that are."""
        return _share(self.num_correct, np.where(self.support > 0, self.num_predicted, 0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the images of this class that are predicted to be of it."""
        return _share(self.num_correct, self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN), the harmonic mean of the two."""
        return _share(2 * self.num_correct, np.where(self.support > 0, self.support + self.num_predicted, 0))

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Share of the images of other classes that are not predicted to be of this class."""
        num_others = self.num_images - self.support
        return _share(num_others - (self.num_predicted - self.num_correct), num_others)


@dataclass(frozen=True, kw_only=True)
class MeanMeasures:
    """Means of the per-class rates over the classes present in truth; fractions in [0, 1], 1 is best."""

    precision: float
    recall: float
    f1: float


def confusion_matrix(probs: FloatArray, labels: IntArray) -> NDArray[np.int64]:
    """Counts int64 [K, K]: row = true class, column = predicted class, sum = N.

    `probs` float [N, K] may as well be logits, or predictions of 0 and 1: only the largest of each row counts, among equals
    the first.
    """
    check_logits(probs, "probs")
    num_images, num_classes = probs.shape
    check_labels(labels, num_images, num_classes)
    cells = labels.astype(np.int64) * num_classes + probs.argmax(axis=1)
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def accuracy_of(confusion: NDArray[np.int64]) -> float:
    """Accuracy from the counts [K, K]."""
    return int(np.trace(confusion)) / int(confusion.sum())


def macro_mean(counts: ClassCounts) -> MeanMeasures:
    """Every class with images has the same weight; one that is never predicted counts with a precision of 0."""
    return _mean(counts, weights=(counts.support > 0).astype(np.float64))


def weighted_mean(counts: ClassCounts) -> MeanMeasures:
    """Every class is weighted by its number of images; of one label per image, the weighted recall is the accuracy."""
    return _mean(counts, weights=counts.support.astype(np.float64))


def micro_mean(counts: ClassCounts) -> MeanMeasures:
    """All pairs of an image and a class at once; NaN where none is predicted, none is true, or neither.

    Of one label and one prediction per image, all three are the accuracy.
    """
    correct, predicted, true = (int(n.sum()) for n in (counts.num_correct, counts.num_predicted, counts.support))
    return MeanMeasures(
        precision=correct / predicted if predicted else nan,
        recall=correct / true if true else nan,
        f1=2 * correct / (predicted + true) if predicted + true else nan,
    )


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


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share


def _mean(counts: ClassCounts, weights: NDArray[np.float64]) -> MeanMeasures:
    if not weights.any():
        return MeanMeasures(precision=nan, recall=nan, f1=nan)
    share = weights / weights.sum()
    return MeanMeasures(
        precision=float(share @ np.nan_to_num(counts.precision)),
        recall=float(share @ np.nan_to_num(counts.recall)),
        f1=float(share @ np.nan_to_num(counts.f1)),
    )


Interval = tuple[float, float]  # lower and upper bound


def wilson_interval(num_successes: int, num_trials: int, confidence: float = 0.95) -> Interval:
    """(low, high) in [0, 1]: Wilson's score interval for the rate `num_successes / num_trials`.

    With no trial nothing is known, and the interval is (0.0, 1.0). Unlike p +- z * sqrt(p (1 - p) / n) it
    stays inside [0, 1] and does not collapse at 0 or n successes. Wilson (1927), JASA 22(158), p. 209-212.
    """
    if not 0 <= num_successes <= num_trials:
        raise DataError(f"{num_successes} successes of {num_trials} trials: expected 0 <= successes <= trials.")
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence is {confidence}; expected a fraction between 0 and 1, such as 0.95.")
    if num_trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = num_successes / num_trials
    shrink = 1 + z * z / num_trials
    centre = (rate + z * z / (2 * num_trials)) / shrink
    half = z * sqrt(rate * (1 - rate) / num_trials + (z / (2 * num_trials)) ** 2) / shrink
    # At the two ends the formula gives exactly 0 or 1; floating point misses by an ulp.
    low = 0.0 if num_successes == 0 else max(0.0, centre - half)
    high = 1.0 if num_successes == num_trials else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True, kw_only=True)
class Hits:
    """So many right of so many images: a rate that carries its n."""

    num_images: int
    num_correct: int

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_images

    @property
    def accuracy_ci95(self) -> tuple[float, float]:
        """Wilson's."""
        return wilson_interval(self.num_correct, self.num_images)
