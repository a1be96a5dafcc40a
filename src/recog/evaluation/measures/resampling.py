"""What the two bootstraps share: how images are drawn, how intervals follow from what the resamples gave, and their file.

A resample is never gathered: it is a column of counts, how often each image was drawn, and every measure is a product with
those counts. Efron and Tibshirani (1993), ch. 13.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import random_words
from recog.evaluation.measures.arrays import IntArray
from recog.evaluation.measures.counts import Interval

NUM_RESAMPLES = 1000
CLASS_MEASURES = ("f1", "auroc", "average_precision")  # of each class that are no plain rate
_CHUNK_COUNTS = 1 << 20  # counts held at a time: 8 MiB


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """95 % intervals by measure; None where the measure is undefined or no resample differs."""

    num_resamples: int
    seed: int
    intervals: dict[str, Interval | None]
    class_intervals: dict[str, tuple[Interval | None, ...]]  # of CLASS_MEASURES, in label order; empty: not made

    def to_dict(self, method: str) -> dict[str, Any]:
        """Without those of the classes, which stand in the classes' rows. `method`: in words."""
        return {
            "method": method,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
            **{f"{name}_ci95": bounds and list(bounds) for name, bounds in self.intervals.items()},
        }


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


def percentile_interval(values: NDArray[np.float64], estimate: float = math.nan) -> Interval | None:
    """From the 2.5 % to the 97.5 % percentile of a measure's `values` float64 [R]; NaN is of resamples that lack it.

    It is widened to contain `estimate`, the measure of the sample itself, unless that is NaN.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = (float(q) for q in np.quantile(defined, (0.025, 0.975)))
    found = unless_empty((low, high))
    return found if found is None or math.isnan(estimate) else (min(low, estimate), max(high, estimate))


def mean_interval(values: NDArray[np.float64]) -> Interval | None:
    """95 % interval of the mean of `values` float64 [N], one of each image; None where no resample differs."""
    num_images = len(values)
    means = [
        counts.T @ values / num_images
        for counts in resampled_counts(np.zeros(num_images, np.int64), num_resamples=NUM_RESAMPLES, seed=0)
    ]
    return percentile_interval(np.concatenate(means), float(values.mean()))


def ece_interval(gaps: NDArray[np.float64], resampled_gaps: NDArray[np.float64]) -> Interval:
    """95 % interval of the ECE, the sum of |gaps|, from `gaps` float64 [bins] and those of resamples [bins, R].

    Chance alone makes gaps, so the ECE of a sample is too large, that of a resample larger still, and percentiles miss the
    truth: all of them, where the model is calibrated. So the question is turned round: if the true gaps were `scale`
    times the observed, and chance added to them what it added to the resamples, would an ECE like the observed one be
    among the middle 95 %? The interval spans the scales where it would, and the ECE of the sample, which chance alone may
    have made larger than all of these. Its coverage is simulated in the tests.
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
    low, high = float(min(plausible)) * observed, min(1.0, float(max(plausible)) * observed)
    return min(low, observed), max(high, observed)


def unless_empty(interval: Interval) -> Interval | None:
    """None where no resample differs: the interval would be a point."""
    return interval if interval[0] < interval[1] else None


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """`part` / `whole`, NaN where the whole is 0."""
    result: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return result


def mean_of_defined_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the rows of [K, B] of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))


def joined(parts: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """The chunks' arrays of each name, one after the other along the resamples, their last axis."""
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
