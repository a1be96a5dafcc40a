"""95 % intervals of measures that are no plain rate: a seeded, stratified bootstrap, all resamples at once.

A resample draws as many images of each class as there are, with replacement: see `resampling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from recog.evaluation.measures.arrays import FloatArray, IntArray
from recog.evaluation.measures.probability import (
    NUM_BINS,
    brier_terms,
    classwise_excess,
    confidence_of,
    equal_mass_bins,
    equal_width_bins,
)
from recog.evaluation.measures.resampled_ranks import RankTable
from recog.evaluation.measures.resampling import (
    CLASS_MEASURES,
    NUM_RESAMPLES,
    Bootstrap,
    ece_interval,
    joined,
    mean_of_defined_rows,
    percentile_interval,
    resampled_counts,
    unless_empty,
)

MEASURES = (
    *("balanced_accuracy", "macro_f1", "matthews", "nll", "brier", "ece", "auroc"),
    *("macro_precision", "weighted_precision", "weighted_f1", "ece_equal_mass", "classwise_ece", "average_precision"),
)
_MAX_RANK_WORK = 2e9  # classes x images x resamples: about two seconds; beyond, AUROC's first-order expansion alone
_MAX_CLASSWISE = 100  # classes; of more, the gaps of all their bins would fill the memory


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """What the resamples gave. What was too much work is not there."""

    values: dict[str, NDArray[np.float64]]  # of MEASURES but the ECEs, [R]
    class_values: dict[str, NDArray[np.float64]]  # of CLASS_MEASURES, [K, R]; NaN where undefined
    gaps: dict[str, NDArray[np.float64]]  # of the ECEs, [bins, R]: the sum of their absolute values is the measure


def bootstrap_intervals(
    probs: FloatArray,
    labels: IntArray,
    nll_terms: FloatArray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Intervals from `probs` float [N, K], `labels` int [N] and the images' own NLL, `nll_terms` float [N].

    The 2.5 % and 97.5 % percentiles of the resampled values; for the ECE see `ece_interval`. A class with a single image
    does not vary. A measure on which no resample differs, as where every answer is right, has no interval.
    """
    resampled = resample_measures(probs, labels, nll_terms, num_resamples=num_resamples, seed=seed)
    intervals = {name: percentile_interval(values) for name, values in resampled.values.items()}
    for name, table in _gap_tables(probs, labels).items():
        intervals[name] = unless_empty(ece_interval(table.sum(axis=1), resampled.gaps[name]))
    return Bootstrap(
        num_resamples=num_resamples,
        seed=seed,
        intervals={name: intervals.get(name) for name in MEASURES},
        class_intervals={
            name: tuple(map(percentile_interval, resampled.class_values.get(name, ()))) for name in CLASS_MEASURES
        },
    )


def resample_measures(
    probs: FloatArray, labels: IntArray, nll_terms: FloatArray, *, num_resamples: int, seed: int
) -> Resampled:
    """The measures of every resample. Matthews is 0 where a resample's answers do not vary."""
    order = np.argsort(labels, kind="stable")
    probs, labels, nll_terms = probs[order], labels[order], nll_terms[order]
    sums = _Sums.of(probs, labels, nll_terms)
    gap_tables = _gap_tables(probs, labels)
    work = probs.shape[0] * probs.shape[1] * num_resamples
    ranks = [] if work > _MAX_RANK_WORK else _rank_tables(probs, labels)
    values, class_values, gaps = [], [], []
    for counts in resampled_counts(labels, num_resamples=num_resamples, seed=seed):
        mean_part, class_part = sums.measures(counts)
        if ranks:
            auroc, precision = zip(*(table.measures(counts) for table in ranks), strict=True)
            class_part |= {"auroc": np.stack(auroc), "average_precision": np.stack(precision)}
            mean_part |= {name: mean_of_defined_rows(class_part[name]) for name in ("auroc", "average_precision")}
        values.append(mean_part)
        class_values.append(class_part)
        gaps.append({name: table @ counts for name, table in gap_tables.items()})
    return Resampled(values=joined(values), class_values=joined(class_values), gaps=joined(gaps))


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """One sparse matrix whose product with counts [N, B] holds every sum over images that a measure needs.

    Its rows: three terms (NLL, Brier, AUROC's expansion), and per class the images right and the images called so.
    """

    table: csr_array  # [3 + 2 K, N]
    support: NDArray[np.float64]  # images of each class, the same in every resample: [K]

    @classmethod
    def of(cls, probs: FloatArray, labels: IntArray, nll_terms: FloatArray) -> _Sums:
        num_images, num_classes = probs.shape
        is_correct = probs.argmax(axis=1) == labels
        rows = [
            csr_array(np.stack([nll_terms, brier_terms(probs, labels), _auroc_terms(probs, labels)])),
            _scatter(labels.astype(np.int64), is_correct.astype(np.float64), num_classes),
            _scatter(probs.argmax(axis=1), np.ones(num_images), num_classes),
        ]
        support = np.bincount(labels, minlength=num_classes).astype(np.float64)
        return cls(table=vstack(rows, format="csr"), support=support)

    def measures(
        self, counts: NDArray[np.float64]
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """Of the images float64 [B] each, and of the classes [K, B], from counts [N, B]."""
        num_images, num_classes = counts.shape[0], len(self.support)
        sums = self.table @ counts
        hits, called = sums[3 : 3 + num_classes], sums[3 + num_classes :]
        support = self.support[:, None]
        present = self.support > 0
        share = self.support / num_images
        # a class that is never called counts with a precision of 0, see `counts`
        precision = np.where(called > 0, hits / np.maximum(called, 1), 0.0)
        f1 = np.where(support > 0, 2 * hits / np.maximum(support + called, 1), np.nan)
        covariance = hits.sum(axis=0) * num_images - (support * called).sum(axis=0)
        spread = num_images**2 - np.square(self.support).sum()
        spreads = np.sqrt(spread * (num_images**2 - np.square(called).sum(axis=0)))
        values = {
            "balanced_accuracy": (hits[present] / support[present]).mean(axis=0),
            "macro_precision": precision[present].mean(axis=0),
            "macro_f1": f1[present].mean(axis=0),
            "weighted_precision": share @ precision,
            "weighted_f1": share[present] @ f1[present],
            "matthews": np.divide(covariance, spreads, out=np.zeros_like(spreads), where=spreads > 0),
            "nll": sums[0] / num_images,
            "brier": sums[1] / num_images,
            "auroc": np.clip(sums[2], 0.0, 1.0),
        }
        return values, {"f1": f1}


def _gap_tables(probs: FloatArray, labels: IntArray) -> dict[str, csr_array]:
    """Per ECE, sparse [bins, N]: what each image adds to its bin's gap. The absolute values of the rows' sums add up to it."""
    num_images, num_classes = probs.shape
    confidence, is_correct = confidence_of(probs, labels)
    excess = (confidence - is_correct) / num_images
    tables = {
        "ece": _scatter(equal_width_bins(confidence), excess, NUM_BINS),
        "ece_equal_mass": _scatter(equal_mass_bins(confidence), excess, NUM_BINS),
    }
    if num_classes <= _MAX_CLASSWISE:
        cells, class_excess = classwise_excess(probs, labels)
        images = np.repeat(np.arange(num_images), num_classes)
        shape = (NUM_BINS * num_classes, num_images)
        shares = class_excess.ravel() / (num_images * num_classes)
        tables["classwise_ece"] = csr_array((shares, (cells.ravel(), images)), shape=shape)
    return tables


def _rank_tables(probs: FloatArray, labels: IntArray) -> list[RankTable]:
    images = np.arange(len(labels))
    return [
        RankTable.of(probs[:, c], labels == c, images=images, num_images=len(labels)) for c in range(probs.shape[1])
    ]


def _auroc_terms(probs: FloatArray, labels: IntArray) -> NDArray[np.float64]:
    """Per image, float64 [N], terms whose sum over a resample is its macro AUROC to first order; on the sample, exactly.

    Hoeffding's projection: an image's pairs won on average, DeLong et al.'s (1988) structural components. Both images of
    a pair vary, so each class adds its own images' mean, its others' mean, less the AUROC itself.
    """
    terms = np.zeros(len(labels))
    num_ranked = 0
    for c in range(probs.shape[1]):
        is_own = labels == c
        own, others = np.sort(probs[is_own, c]), np.sort(probs[~is_own, c])
        if len(own) == 0 or len(others) == 0:
            continue
        num_ranked += 1
        beats = _mean_place(others, probs[is_own, c])
        beaten = 1 - _mean_place(own, probs[~is_own, c])
        terms[is_own] += (beats - beats.mean()) / len(own)
        terms[~is_own] += beaten / len(others)
    return terms / max(num_ranked, 1)


def _mean_place(sorted_scores: FloatArray, scores: FloatArray) -> NDArray[np.float64]:
    """The share of `sorted_scores` below each of `scores`, equals counting half."""
    below = np.searchsorted(sorted_scores, scores, side="left")
    not_above = np.searchsorted(sorted_scores, scores, side="right")
    share: NDArray[np.float64] = (below + not_above) / (2 * len(sorted_scores))
    return share


def _scatter(rows: NDArray[np.int64], values: NDArray[np.float64], num_rows: int) -> csr_array:
    """Sparse [num_rows, N] with values[i] at (rows[i], i)."""
    return csr_array((values, (rows, np.arange(len(rows)))), shape=(num_rows, len(rows)))
