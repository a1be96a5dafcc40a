"""Measures of a classifier: pure functions of probs or logits [N, K] and labels [N]. N images, K classes.

Where scikit-learn has a measure, the value is scikit-learn's. The one difference is in what has no value:
scikit-learn fills in 0 with a warning; here it is undefined (NaN, in JSON null), so that nobody reads a 0
that was never measured.

- A class absent in truth: its precision, recall and F1 are undefined, and every mean leaves it out.
- A class present in truth but never predicted: its recall and F1 are 0, its precision (0 of 0) is undefined.
  In the means of precision it counts as 0, as in scikit-learn: left out, a network would gain by never naming
  a class that it finds hard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError, ShapeError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class ClassMeasures:
    """Per class, in label order: rates float64 [K] in [0, 1], NaN where undefined; counts int64 [K]."""

    precision: NDArray[np.float64]  # share of the images called this class that are of it
    recall: NDArray[np.float64]  # share of the images of this class that are called so
    f1: NDArray[np.float64]  # 2 TP / (2 TP + FP + FN), the harmonic mean of the two
    support: NDArray[np.int64]  # images of this class
    num_predicted: NDArray[np.int64]  # images called this class
    num_correct: NDArray[np.int64]  # both


@dataclass(frozen=True, kw_only=True)
class MeanMeasures:
    """Means of the per-class rates over the classes present in truth; fractions in [0, 1], 1 is best."""

    precision: float
    recall: float
    f1: float


def check_logits(logits: FloatArray, what: str = "logits") -> None:
    """Refuse anything but a finite floating array [N, K] with N >= 1 and K >= 2."""
    if not isinstance(logits, np.ndarray) or not np.issubdtype(logits.dtype, np.floating):
        kind = logits.dtype if isinstance(logits, np.ndarray) else type(logits).__name__
        raise ShapeError(f"{what} are {kind}; expected a floating NumPy array [N, K].")
    if logits.ndim != 2:
        raise ShapeError(f"{what} have shape {logits.shape}; expected (N, K). One image needs {what}[None].")
    if logits.shape[1] < 2:
        raise ShapeError(
            f"{what} have shape {logits.shape}: {logits.shape[1]} classes; expected at least 2. "
            "A single logit z per image becomes two as np.concatenate([np.zeros_like(z), z], axis=1)."
        )
    if logits.shape[0] == 0:
        raise DataError("there are 0 images to measure; expected at least 1.")
    broken_rows = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken_rows.size:
        raise DataError(
            f"{what} of {broken_rows.size} of {len(logits)} images are NaN or infinite, "
            f"first in row {broken_rows[0]}. The network is broken or was given broken input; "
            "no measure is taken over the rest."
        )


def check_labels(labels: IntArray, num_images: int, num_classes: int) -> None:
    """Refuse anything but an integer array [N] with values in [0, K)."""
    if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
        kind = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise ShapeError(f"labels are {kind}; expected an int64 NumPy array [N] of class indices.")
    if labels.shape != (num_images,):
        raise ShapeError(f"labels have shape {labels.shape}; expected ({num_images},), one for each image.")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(f"label {labels[row]} in row {row} is outside 0..{num_classes - 1}, the {num_classes} classes.")


def log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Natural logarithms of `softmax(logits)`: float64 [N, K], <= 0; safe where `exp(logits)` overflows."""
    check_logits(logits)
    shifted = _shifted(logits)
    log_probs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probs


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Probabilities float64 [N, K] in [0, 1] from `logits` float [N, K]; each row sums to 1."""
    check_logits(logits)
    powers = np.exp(_shifted(logits))
    probs: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probs


def nll(logits: FloatArray, labels: IntArray) -> float:
    """Mean negative log-likelihood, in nats, of `labels` int [N] under the softmax of `logits` float [N, K].

    0 is best; guessing all classes evenly gives ln K. Good (1952), J. R. Stat. Soc. B 14(1).
    """
    check_logits(logits)
    check_labels(labels, *logits.shape)
    log_probs = log_softmax(logits)
    # `0.0 -` rather than a minus sign: a perfect score is 0.0, not -0.0.
    return 0.0 - float(log_probs[np.arange(len(labels)), labels].mean())


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
    return ClassMeasures(
        precision=_divide(num_correct, num_predicted, present & (num_predicted > 0)),
        recall=_divide(num_correct, support, present),
        f1=_divide(2 * num_correct, support + num_predicted, present),  # TP + FN = support, TP + FP = predicted
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


def most_confused(confusion: NDArray[np.int64], limit: int) -> list[tuple[int, int, int]]:
    """Up to `limit` of (true class, predicted class, count), most frequent first, then in label order."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    counts = wrong[rows, columns]
    order = np.argsort(-counts, kind="stable")[:limit]
    return [(int(rows[i]), int(columns[i]), int(counts[i])) for i in order]


def _shifted(logits: FloatArray) -> NDArray[np.float64]:
    """Each row less its maximum, which softmax does not see and `exp` cannot overflow on."""
    wide = logits.astype(np.float64)
    shifted: NDArray[np.float64] = wide - wide.max(axis=1, keepdims=True)
    return shifted


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
