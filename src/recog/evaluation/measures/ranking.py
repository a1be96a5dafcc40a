"""Measures of the order of the probs: is the truth among the first k, do the images of a class come before the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.arrays import BoolArray, FloatArray, IntArray, check_labels, check_logits


def num_in_top(probs: FloatArray, labels: IntArray, k: int) -> int:
    """How many of the N images have `labels` int [N] among the `k` largest of `probs` (or logits) [N, K].

    Among equals the first class comes first, as in `Prediction.top`.
    """
    check_logits(probs, "probs")
    check_labels(labels, *probs.shape)
    truth = probs[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probs.shape[1])[None, :] < labels[:, None]
    place = (probs > truth).sum(axis=1) + ((probs == truth) & earlier).sum(axis=1)
    return int((place < k).sum())


def auroc(probs: FloatArray, is_class: BoolArray) -> NDArray[np.float64]:
    """Per class, float64 [K]: the chance that an image of the class has more of its probability than an image of another.

    `probs` float and `is_class` bool [N, K]. A tie counts one half; 1 is best, 0.5 is chance. NaN where all images are of the
    class or none is. The Mann-Whitney statistic from mid-ranks: Hanley and McNeil (1982), Radiology 143(1).
    """
    return np.array([auroc_of(*columns) for columns in zip(probs.T, is_class.T, strict=True)])


def average_precision(probs: FloatArray, is_class: BoolArray) -> NDArray[np.float64]:
    """Per class, float64 [K]: precision averaged over the steps of recall as its probability falls; no interpolation.

    Images with equal probability enter together; 1 is best, the class's share of the images is chance. NaN where all images
    are of the class or none is. Manning et al. (2008), section 8.4, and scikit-learn.
    """
    return np.array([average_precision_of(*columns) for columns in zip(probs.T, is_class.T, strict=True)])


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def auroc_of(scores: FloatArray, is_positive: NDArray[np.bool_]) -> float:
    """AUROC of `scores` float [N] for telling `is_positive` bool [N] from the others; NaN where one kind is missing."""
    num_positive = int(is_positive.sum())
    num_negative = len(scores) - num_positive
    if num_positive == 0 or num_negative == 0:
        return float("nan")
    negatives = np.sort(scores[~is_positive])
    positives = scores[is_positive]
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    wins = int(below.sum()) + int(not_above.sum())  # twice the wins, a tie being half of one
    return wins / (2 * num_positive * num_negative)


def average_precision_of(scores: FloatArray, is_positive: NDArray[np.bool_]) -> float:
    """Average precision of `scores` float [N] for finding `is_positive` bool [N]; NaN where all are positive or none is."""
    num_positive = int(is_positive.sum())
    if num_positive in (0, len(scores)):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_ties = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    num_hits = np.cumsum(is_positive[order])[last_of_ties]
    steps = np.diff(num_hits, prepend=0)
    return float((steps * (num_hits / (last_of_ties + 1))).sum() / num_positive)
