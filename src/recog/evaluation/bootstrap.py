"""95 % intervals of measures that are no plain rate: a seeded, stratified bootstrap, all resamples at once.

A resample draws as many images of each class as there are, with replacement. It is never gathered: it is a column of counts,
how often each image was drawn, and every measure here is a product with those counts. Efron and Tibshirani (1993), ch. 13.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from recog.core.chance import random_words
from recog.evaluation.arrays import FloatArray, IntArray
from recog.evaluation.probability import (
    NUM_BINS,
    brier_terms,
    confidence_of,
    equal_width_bins,
    reliability_gaps,
)

NUM_RESAMPLES = 1000
MEASURES = ("balanced_accuracy", "macro_f1", "matthews", "nll", "brier", "ece", "auroc")
_CHUNK_COUNTS = 1 << 20  # counts held at a time: 8 MiB
_MAX_AUROC_WORK = 2e9  # classes x images x resamples: about two seconds; beyond, AUROC's first-order expansion

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """95 % intervals; None where the measure is undefined or no resample differs."""

    num_resamples: int
    seed: int
    balanced_accuracy_ci95: Interval | None
    macro_f1_ci95: Interval | None
    matthews_ci95: Interval | None
    nll_ci95: Interval | None
    brier_ci95: Interval | None
    ece_ci95: Interval | None
    auroc_ci95: Interval | None  # of the macro mean


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """What the resamples gave: each of MEASURES float64 [R], and the ECE's gaps per bin, float64 [NUM_BINS, R]."""

    values: dict[str, NDArray[np.float64]]
    gaps: NDArray[np.float64]


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
    does not vary. A measure on which no resample differs, as where every answer is right, has no interval: the sample
    cannot say what it did not see.
    """
    resampled = resample_measures(probs, labels, nll_terms, num_resamples=num_resamples, seed=seed)
    intervals: dict[str, Interval | None] = {}
    for name in MEASURES:
        low, high = (float(q) for q in np.quantile(resampled.values[name], (0.025, 0.975)))
        if name == "ece":
            low, high = ece_interval(reliability_gaps(probs, labels), resampled.gaps)
        intervals[f"{name}_ci95"] = (low, high) if low < high else None  # NaN is below nothing
    return Bootstrap(num_resamples=num_resamples, seed=seed, **intervals)


def ece_interval(gaps: NDArray[np.float64], resampled_gaps: NDArray[np.float64]) -> Interval:
    """95 % interval of the ECE, the sum of |gaps|, from `gaps` float64 [bins] and those of resamples [bins, R].

    Chance alone makes gaps, so the ECE of a sample is too large, that of a resample larger still, and percentiles miss the
    truth: all of them, where the model is calibrated. So the question is turned round: if the true gaps were `scale`
    times the observed, and chance added to them what it added to the resamples, would an ECE like the observed one be
    among the middle 95 %? The interval spans the scales where it would. Its coverage is simulated in the tests.
    """
    observed = float(np.abs(gaps).sum())
    noise = resampled_gaps - gaps[:, None]
    scales = np.linspace(0.0, 2.0, 101)
    plausible = []
    for scale in scales:
        low, high = np.quantile(np.abs(scale * gaps[:, None] + noise).sum(axis=0), (0.025, 0.975))
        if low <= observed <= high:
            plausible.append(scale)
    if not plausible:
        return 0.0, observed
    return float(min(plausible)) * observed, min(1.0, float(max(plausible)) * observed)


def resample_measures(
    probs: FloatArray, labels: IntArray, nll_terms: FloatArray, *, num_resamples: int, seed: int
) -> Resampled:
    """Each of MEASURES on every resample. Matthews is 0 where a resample's answers do not vary."""
    order = np.argsort(labels, kind="stable")
    probs, labels, nll_terms = probs[order], labels[order], nll_terms[order]
    sums = _Sums.of(probs, labels, nll_terms)
    work = probs.shape[0] * probs.shape[1] * num_resamples
    ranks = [] if work > _MAX_AUROC_WORK else _rank_tables(probs, labels)
    chunks, gaps = [], []
    for counts in resampled_counts(labels, num_resamples=num_resamples, seed=seed):
        chunk, chunk_gaps = sums.measures(counts)
        if ranks:
            chunk["auroc"] = np.mean([table.auroc(counts) for table in ranks], axis=0)
        chunks.append(chunk)
        gaps.append(chunk_gaps)
    values = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in MEASURES}
    return Resampled(values=values, gaps=np.concatenate(gaps, axis=1))


def resampled_counts(labels: IntArray, *, num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each resample drew each image, float64 [N, B], for all resamples in turn; `labels` int [N] ascending.

    The draw of resample r is a function of (seed, r) alone, so the size of the chunks does not matter.
    """
    num_images = len(labels)
    _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    starts, spans = np.repeat(first, sizes), np.repeat(sizes, sizes).astype(np.uint64)
    chunk = max(1, _CHUNK_COUNTS // num_images)
    for begin in range(0, num_resamples, chunk):
        resamples = np.arange(begin, min(begin + chunk, num_resamples))
        words = random_words(seed, 0, resamples, "bootstrap", num_images).astype(np.uint64)
        drawn = starts + ((words * spans) >> np.uint64(32)).astype(np.int64)
        cells = drawn * len(resamples) + np.arange(len(resamples))[:, None]
        counts = np.bincount(cells.ravel(), minlength=num_images * len(resamples))
        yield counts.reshape(num_images, len(resamples)).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """One sparse matrix whose product with counts [N, B] holds every sum over images that a measure needs.

    Its rows: three terms (NLL, Brier, AUROC's expansion), the bins' excess confidence, and per class the images right
    and the images called so.
    """

    table: csr_array  # [3 + NUM_BINS + 2 K, N]
    support: NDArray[np.float64]  # images of each class, the same in every resample: [K]

    @classmethod
    def of(cls, probs: FloatArray, labels: IntArray, nll_terms: FloatArray) -> _Sums:
        num_images, num_classes = probs.shape
        confidence, is_correct = confidence_of(probs, labels)
        terms = np.stack([nll_terms, brier_terms(probs, labels), _auroc_terms(probs, labels)])
        excess = confidence - is_correct
        rows = [
            csr_array(terms),
            _scatter(equal_width_bins(confidence), excess, NUM_BINS),
            _scatter(labels.astype(np.int64), is_correct.astype(np.float64), num_classes),
            _scatter(probs.argmax(axis=1), np.ones(num_images), num_classes),
        ]
        support = np.bincount(labels, minlength=num_classes).astype(np.float64)
        return cls(table=vstack(rows, format="csr"), support=support)

    def measures(self, counts: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
        """Each of MEASURES float64 [B], and the bins' gaps [NUM_BINS, B], from counts [N, B]."""
        num_images, num_classes = counts.shape[0], len(self.support)
        sums = self.table @ counts
        gaps, rest = sums[3 : 3 + NUM_BINS] / num_images, sums[3 + NUM_BINS :]
        hits, called = rest[:num_classes], rest[num_classes:]
        present = self.support > 0
        support = self.support[present, None]
        covariance = hits.sum(axis=0) * num_images - (self.support[:, None] * called).sum(axis=0)
        spread = num_images**2 - np.square(self.support).sum()
        spreads = np.sqrt(spread * (num_images**2 - np.square(called).sum(axis=0)))
        values = {
            "balanced_accuracy": (hits[present] / support).mean(axis=0),
            "macro_f1": (2 * hits[present] / (support + called[present])).mean(axis=0),
            "matthews": np.divide(covariance, spreads, out=np.zeros_like(spreads), where=spreads > 0),
            "nll": sums[0] / num_images,
            "brier": sums[1] / num_images,
            "ece": np.abs(gaps).sum(axis=0),
            "auroc": np.clip(sums[2], 0.0, 1.0),
        }
        return values, gaps


@dataclass(frozen=True, kw_only=True)
class _RankTable:
    """AUROC of one class, its images sorted once. m distinct scores of its own images cut the others into 2 m + 1 heaps.

    Heap 2 j lies below own score j and above the one before, heap 2 j + 1 equals it.
    """

    own: csr_array  # [m, N]
    others: csr_array  # [2 m + 1, N]
    num_pairs: int

    def auroc(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64 [B] from counts [N, B]: pairs won over all pairs, a tie being half of one."""
        own, heaps = self.own @ counts, self.others @ counts
        up_to = np.cumsum(heaps, axis=0)
        won = up_to[:-1:2] + 0.5 * heaps[1::2]
        result: NDArray[np.float64] = np.einsum("mb,mb->b", own, won) / self.num_pairs
        return result


def _rank_tables(probs: FloatArray, labels: IntArray) -> list[_RankTable]:
    tables = []
    for c in range(probs.shape[1]):
        is_own = labels == c
        num_own, num_others = int(is_own.sum()), int((~is_own).sum())
        if num_own and num_others:
            scores = probs[:, c]
            cuts = np.unique(scores[is_own])
            place = np.searchsorted(cuts, scores, side="left")
            at_cut = cuts[np.minimum(place, len(cuts) - 1)] == scores
            own = _scatter(place[is_own], np.ones(num_own), len(cuts), np.flatnonzero(is_own), len(labels))
            heap = 2 * place + at_cut
            others = _scatter(
                heap[~is_own], np.ones(num_others), 2 * len(cuts) + 1, np.flatnonzero(~is_own), len(labels)
            )
            tables.append(_RankTable(own=own, others=others, num_pairs=num_own * num_others))
    return tables


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


def _scatter(
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    num_rows: int,
    columns: NDArray[np.int64] | None = None,
    num_columns: int | None = None,
) -> csr_array:
    """Sparse [num_rows, num_columns] with values[i] at (rows[i], columns[i]); without `columns`, at (rows[i], i)."""
    columns = np.arange(len(rows)) if columns is None else columns
    return csr_array((values, (rows, columns)), shape=(num_rows, num_columns or len(rows)))
