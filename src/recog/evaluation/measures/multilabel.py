"""Measures where each image has any number of the classes, and each is a question of its own: a sigmoid per label.

`logits` and `probs` are float [N, K], `targets` [N, K] of 0 and 1, `decisions` bool [N, K]. Where scikit-learn has a measure,
the value is scikit-learn's. The one difference is in what has no value: there scikit-learn fills in a number with a warning,
here it is undefined (NaN), and means leave it out:

- A label that no image shows: its precision, recall, F1, AUROC and average precision. The micro means still count what was
  wrongly predicted for it.
- A label that all images show: its AUROC, average precision and specificity.

A label with images that was never predicted has a precision of 0 in the macro mean, as in scikit-learn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError, ShapeError
from recog.evaluation.measures.arrays import BoolArray, FloatArray, TargetArray, check_logits
from recog.evaluation.measures.probability import (
    NUM_BINS,
    average_precision,
    average_precision_of,
    equal_width_bins,
    mean_of_defined,
)


def sigmoid(logits: FloatArray) -> NDArray[np.float64]:
    """Probabilities float64 [N, K] in [0, 1], each label's for itself: the rows do not sum to 1."""
    check_logits(logits)
    wide = logits.astype(np.float64)
    shrunk = np.exp(-np.abs(wide))  # never above 1, so nothing overflows
    probs: NDArray[np.float64] = np.where(wide >= 0, 1.0, shrunk) / (1.0 + shrunk)
    return probs


def check_targets(targets: TargetArray, num_images: int, num_classes: int) -> BoolArray:
    """`targets` as bool [N, K]; ShapeError or DataError where they are anything but zeros and ones of that shape."""
    if not isinstance(targets, np.ndarray) or targets.shape != (num_images, num_classes):
        shape = targets.shape if isinstance(targets, np.ndarray) else type(targets).__name__
        raise ShapeError(f"targets are {shape}; expected a NumPy array ({num_images}, {num_classes}) of 0 and 1.")
    is_shown: BoolArray = targets == 1
    strange = ~is_shown & (targets != 0)
    if strange.any():
        row, column = (int(i) for i in np.argwhere(strange)[0])
        raise DataError(f"the target in row {row}, column {column} is {targets[row, column]}; expected 0 or 1.")
    return is_shown


def decide(probs: FloatArray, thresholds: FloatArray) -> BoolArray:
    """Which labels are predicted, bool [N, K]: those whose probability is at or above their threshold, `thresholds` [K]."""
    return np.asarray(probs >= thresholds)


def example_f1_terms(decisions: BoolArray, targets: BoolArray) -> NDArray[np.float64]:
    """Per image, float64 [N]: F1 of its predicted labels; 1 where it has none and none is predicted.

    Its mean is scikit-learn's f1_score(average='samples', zero_division=1). Tsoumakas and Katakis (2007), IJDWM 3(3).
    """
    sizes = decisions.sum(axis=1) + targets.sum(axis=1)
    both = (decisions & targets).sum(axis=1)
    return np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)


def ranking_precision_terms(probs: FloatArray, targets: BoolArray) -> NDArray[np.float64]:
    """Per image, float64 [N]: mean over its labels of the share of its labels among all that are at least as probable.

    Its mean is scikit-learn's label_ranking_average_precision_score: 1 is best, and an image that shows none or all counts
    1. Schapire and Singer (2000), Machine Learning 39.
    """
    from scipy.stats import rankdata  # takes longer to import than one image to answer; only measuring needs it

    places = rankdata(-probs, method="max", axis=1)
    terms = np.ones(len(probs))
    for i in np.flatnonzero(targets.any(axis=1) & ~targets.all(axis=1)):
        own = targets[i]
        terms[i] = (rankdata(-probs[i, own], method="max") / places[i, own]).mean()
    return terms


def mean_average_precision(probs: FloatArray, targets: BoolArray) -> float:
    """Mean over the labels of the average precision, where defined; 1 is best, a label's share of the images is chance.

    `probs` may be logits. NaN where it is defined for no label.
    """
    return mean_of_defined(average_precision(probs, targets))


def micro_average_precision(probs: FloatArray, targets: BoolArray) -> float:
    """Average precision over all N * K pairs of an image and a label at once; NaN where all or none are shown."""
    return average_precision_of(probs.ravel(), targets.ravel())


def bce_terms(logits: FloatArray, targets: BoolArray) -> NDArray[np.float64]:
    """Negative log-likelihood in nats of each target under the sigmoid of its logit: float64 [N, K], >= 0."""
    wide = logits.astype(np.float64)
    terms: NDArray[np.float64] = np.logaddexp(0, np.where(targets, -wide, wide))
    return terms


def bce(logits: FloatArray, targets: BoolArray) -> float:
    """Mean of `bce_terms` over images and labels: 0 is best, ln 2 is a coin toss."""
    return float(bce_terms(logits, targets).mean())


def label_brier_terms(probs: FloatArray, targets: BoolArray) -> NDArray[np.float64]:
    """Squared gap between each probability and its target: float64 [N, K]; its mean is the Brier score, 0.25 by coin toss."""
    gaps: NDArray[np.float64] = np.square(probs.astype(np.float64) - targets)
    return gaps


def label_gaps(probs: FloatArray, targets: BoolArray, num_bins: int = NUM_BINS) -> NDArray[np.float64]:
    """Per image and equal-width bin, float64 [N, num_bins]: the sum over its labels of probability less target, over N * K.

    Summed over the images, the absolute values add up to the ECE: how far a probability is from how often its label is
    shown, over all pairs of an image and a label.
    """
    num_images, num_labels = probs.shape
    cells = equal_width_bins(probs.astype(np.float64), num_bins) + num_bins * np.arange(num_images)[:, None]
    sums = np.bincount(cells.ravel(), weights=(probs - targets).ravel(), minlength=num_images * num_bins)
    gaps: NDArray[np.float64] = sums.reshape(num_images, num_bins) / (num_images * num_labels)
    return gaps


def label_ece(probs: FloatArray, targets: BoolArray, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error over all N * K probabilities in equal-width bins; 0 is best. Naeini et al. (2015), AAAI."""
    return float(np.abs(label_gaps(probs, targets, num_bins).sum(axis=0)).sum())
