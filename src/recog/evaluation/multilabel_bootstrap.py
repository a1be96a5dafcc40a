"""95 % intervals of multi-label measures: a seeded bootstrap over whole images, as the labels of one image go together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recog.evaluation.arrays import FloatArray
from recog.evaluation.bootstrap import NUM_RESAMPLES, ece_interval, resampled_counts
from recog.evaluation.multilabel import (
    BoolArray,
    bce_terms,
    example_f1_terms,
    label_brier_terms,
    label_gaps,
    ranking_precision_terms,
)

MEASURES = (
    "mean_average_precision",
    "macro_f1",
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "hamming_loss",
    "example_f1",
    "ranking_average_precision",
    "nll",
    "brier",
    "ece",
)
MIN_RESAMPLES = 200
_MAX_WORK = 4e8  # images x labels x resamples: a few seconds; beyond, fewer resamples

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class MultilabelBootstrap:
    """95 % intervals of MEASURES by name; None where the measure is undefined or no resample differs."""

    num_resamples: int
    seed: int
    intervals: dict[str, Interval | None]


def bootstrap_multilabel(
    calibrated_logits: FloatArray,
    probs: NDArray[np.float64],
    decisions: BoolArray,
    targets: BoolArray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> MultilabelBootstrap:
    """Intervals from `calibrated_logits`, their sigmoid `probs`, `decisions` and `targets`, all [N, K].

    A resample draws N images with replacement. The 2.5 % and 97.5 % percentiles; for the ECE see `bootstrap.ece_interval`.
    A label that a resample does not show is left out of its means, as everywhere. Very large data take fewer resamples.
    """
    affordable = int(_MAX_WORK / probs.size)
    num_resamples = min(num_resamples, max(MIN_RESAMPLES, affordable))
    gaps = label_gaps(probs, targets)
    terms = np.stack(
        [
            (decisions != targets).mean(axis=1),
            example_f1_terms(decisions, targets),
            ranking_precision_terms(probs, targets),
            bce_terms(calibrated_logits, targets).mean(axis=1),
            label_brier_terms(probs, targets).mean(axis=1),
        ]
    )
    values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in MEASURES}
    resampled_gaps = []
    ranks = list(_rank_tables(probs, targets))
    tables = [csr_array(array.T.astype(np.float64)) for array in (decisions & targets, decisions, targets)]
    for counts in resampled_counts(np.zeros(len(probs), dtype=np.int64), num_resamples=num_resamples, seed=seed):
        for name, rates in _counted(*(table @ counts for table in tables)).items():
            values[name].append(rates)
        means = terms @ counts / len(probs)
        for name, row in zip(
            ("hamming_loss", "example_f1", "ranking_average_precision", "nll", "brier"), means, strict=True
        ):
            values[name].append(row)
        values["mean_average_precision"].append(_mean_defined(np.stack([table.values(counts) for table in ranks])))
        resampled_gaps.append(gaps.T @ counts)
    all_gaps = np.concatenate(resampled_gaps, axis=1)
    intervals = {name: _percentiles(np.concatenate(chunks)) for name, chunks in values.items() if chunks}
    low, high = ece_interval(gaps.sum(axis=0), all_gaps)
    intervals["ece"] = (low, high) if low < high else None
    return MultilabelBootstrap(num_resamples=num_resamples, seed=seed, intervals=intervals)


def _counted(
    both: NDArray[np.float64], said: NDArray[np.float64], shown: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Rates float64 [B] from counts [K, B]."""
    all_both, all_said, all_shown = (array.sum(axis=0) for array in (both, said, shown))
    f1 = np.where(shown > 0, 2 * both / np.maximum(said + shown, 1), np.nan)
    return {
        "macro_f1": _mean_defined(f1),
        "micro_precision": _ratio(all_both, all_said),
        "micro_recall": _ratio(all_both, all_shown),
        "micro_f1": _ratio(2 * all_both, all_said + all_shown),
    }


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


def _mean_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the rows of [K, B] of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))


def _percentiles(values: NDArray[np.float64]) -> Interval | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = (float(q) for q in np.quantile(defined, (0.025, 0.975)))
    return (low, high) if low < high else None


@dataclass(frozen=True, kw_only=True)
class _RankTable:
    """Average precision of one label, its images sorted once into heaps between the m distinct scores of those that show it.

    Heap j holds what is below score j - 1 and not below score j, the highest first; what is below all of them cannot matter.
    """

    own: csr_array  # [m, N]
    all: csr_array  # [m, N]
    num_images: int

    def values(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64 [B] from counts [N, B]; NaN where a resample shows the label on none or all of its images."""
        own = self.own @ counts
        hits, taken = np.cumsum(own, axis=0), np.cumsum(self.all @ counts, axis=0)
        num_own = hits[-1]
        sums = (own * hits / np.maximum(taken, 1)).sum(axis=0)
        return _ratio(sums, np.where(num_own < self.num_images, num_own, 0.0))


def _rank_tables(probs: NDArray[np.float64], targets: BoolArray) -> Iterator[_RankTable]:
    num_images = len(probs)
    for k in range(probs.shape[1]):
        is_own = targets[:, k]
        cuts = np.unique(-probs[is_own, k]) if is_own.any() else np.array([-2.0])  # below any probability's negative
        place = np.searchsorted(cuts, -probs[:, k], side="left")
        counted = place < len(cuts)
        own = np.flatnonzero(is_own)
        rows = np.flatnonzero(counted)
        shape = (len(cuts), num_images)
        yield _RankTable(
            own=csr_array((np.ones(len(own)), (place[own], own)), shape=shape),
            all=csr_array((np.ones(len(rows)), (place[rows], rows)), shape=shape),
            num_images=num_images,
        )
