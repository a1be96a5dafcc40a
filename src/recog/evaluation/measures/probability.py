"""Measures of the probabilities: scores, calibration, and the order that they give (top-k, AUROC, average precision)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.arrays import BoolArray, FloatArray, IntArray, check_labels, check_logits

NUM_BINS = 15  # Guo et al. (2017)


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
    return exact_mean(nll_terms(logits, labels))


def exact_mean(terms: NDArray[np.float64]) -> float:
    """The mean of `terms` [N], rounded once, so that it does not depend on the order of the images."""
    return math.fsum(terms) / len(terms)


def nll_terms(logits: FloatArray, labels: IntArray) -> NDArray[np.float64]:
    """Per image, float64 [N] >= 0: the negative log-likelihood that `nll` is the mean of."""
    check_logits(logits)
    check_labels(labels, *logits.shape)
    # `0.0 -` rather than a minus sign: a perfect score is 0.0, not -0.0.
    terms: NDArray[np.float64] = 0.0 - log_softmax(logits)[np.arange(len(labels)), labels]
    return terms


def brier_score(probs: FloatArray, labels: IntArray) -> float:
    """Squared gap between `probs` float [N, K] and one-hot `labels` int [N], summed over K, mean over N.

    0 is best, 2 is worst. Brier (1950), Monthly Weather Review 78(1).
    """
    return float(brier_terms(probs, labels).mean())


def brier_terms(probs: FloatArray, labels: IntArray) -> NDArray[np.float64]:
    """Per image, float64 [N]: the squared gap that `brier_score` is the mean of."""
    check_logits(probs, "probs")
    check_labels(labels, *probs.shape)
    gap = probs.astype(np.float64)
    gap[np.arange(len(labels)), labels] -= 1
    terms: NDArray[np.float64] = np.einsum("nk,nk->n", gap, gap)
    return terms


def ece_equal_width(
    probs: FloatArray, labels: IntArray, num_bins: int = NUM_BINS, *, preds: BoolArray | None = None
) -> float:
    """Expected calibration error: the gap between confidence and accuracy in each bin, weighted by its images.

    `probs` float [N, K], `labels` int [N]; the confidence is that of `confidence_of`. `num_bins` bins of equal width, each
    with its upper edge and without its lower. 0 is best, 1 is worst; it is too high by chance where bins hold few images.
    Naeini et al. (2015), AAAI; Guo et al. (2017), ICML.
    """
    return float(np.abs(reliability_gaps(probs, labels, num_bins, preds=preds)).sum())


def reliability_gaps(
    probs: FloatArray, labels: IntArray, num_bins: int = NUM_BINS, *, preds: BoolArray | None = None
) -> NDArray[np.float64]:
    """Per equal-width bin, float64 [num_bins]: the sum of confidence less right answers, over all N images."""
    confidence, is_correct = confidence_of(probs, labels, preds)
    return _gaps(confidence, is_correct, equal_width_bins(confidence, num_bins), num_bins)


def ece_equal_mass(
    probs: FloatArray, labels: IntArray, num_bins: int = NUM_BINS, *, preds: BoolArray | None = None
) -> float:
    """As `ece_equal_width`, over bins that hold equally many images, as far as N and ties allow.

    Nguyen and O'Connor (2015), EMNLP. An image's bin follows from how many images have less confidence, so equal
    confidences share a bin and the order of the images does not matter.
    """
    confidence, is_correct = confidence_of(probs, labels, preds)
    return float(np.abs(_gaps(confidence, is_correct, equal_mass_bins(confidence, num_bins), num_bins)).sum())


def classwise_ece(probs: FloatArray, labels: IntArray, num_bins: int = NUM_BINS) -> float:
    """Mean over the K classes of the gap between a class's probability and how often it is true, per equal-width bin.

    `probs` float [N, K], `labels` int [N]; 0 is best. An absent class counts: whatever is given to it is too much.
    Kull et al. (2019), NeurIPS.
    """
    cells, excess = classwise_excess(probs, labels, num_bins)
    gaps = np.bincount(cells.ravel(), weights=excess.ravel())
    return float(np.abs(gaps).sum() / probs.size)


def classwise_excess(
    probs: FloatArray, labels: IntArray, num_bins: int = NUM_BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each image and class, [N, K]: its bin among the num_bins * K of `classwise_ece`, and its probability less the truth."""
    check_logits(probs, "probs")
    num_images, num_classes = probs.shape
    check_labels(labels, num_images, num_classes)
    excess = probs.astype(np.float64)
    cells = equal_width_bins(excess, num_bins) + num_bins * np.arange(num_classes)
    excess[np.arange(num_images), labels] -= 1
    return cells, excess


def confidence_of(
    probs: FloatArray, labels: IntArray, preds: BoolArray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of the predicted class, float64 [N], and whether that is the one of `labels` int [N], bool [N].

    `preds` bool [N, K] has one class a row, by default the most probable one of `probs` [N, K].
    """
    check_logits(probs, "probs")
    check_labels(labels, *probs.shape)
    predicted = (probs if preds is None else preds).argmax(axis=1)
    return probs[np.arange(len(labels)), predicted].astype(np.float64), predicted == labels


def equal_width_bins(values: NDArray[np.float64], num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """The bin in 0..num_bins - 1 of each of `values` in [0, 1]: bin b holds b / num_bins < value <= (b + 1) / num_bins."""
    return np.searchsorted(np.arange(1, num_bins) / num_bins, values, side="left")


def equal_mass_bins(values: NDArray[np.float64], num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """The bin in 0..num_bins - 1 of each of `values` by how many are smaller, so that equals share a bin."""
    return np.searchsorted(np.sort(values), values, side="left") * num_bins // len(values)


def _gaps(
    confidence: NDArray[np.float64], is_correct: NDArray[np.bool_], bins: NDArray[np.int64], num_bins: int
) -> NDArray[np.float64]:
    return np.bincount(bins, weights=confidence - is_correct, minlength=num_bins) / len(confidence)


def _shifted(logits: FloatArray) -> NDArray[np.float64]:
    """Each row less its maximum, which softmax does not see and `exp` cannot overflow on."""
    wide = logits.astype(np.float64)
    shifted: NDArray[np.float64] = wide - wide.max(axis=1, keepdims=True)
    return shifted


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
