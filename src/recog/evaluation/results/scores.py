"""Measures of the probabilities in a report: NLL, calibration, reliability bins, the risk-coverage curve and thresholds.

Bins and cuts are held as counts; shares, rates and intervals follow from them, when measuring and when reading a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.records import convert_record
from recog.evaluation.measures.arrays import BoolArray, IntArray
from recog.evaluation.measures.counts import Hits, Interval, wilson_interval
from recog.evaluation.measures.probability import (
    NUM_BINS,
    brier_score,
    classwise_ece,
    confidence_of,
    ece_equal_mass,
    equal_width_bins,
    exact_mean,
    num_in_top,
)
from recog.evaluation.results.report_format import in_range

TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class TopK(Hits):
    """How often the true class is among the k most probable."""

    k: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "num_correct": self.num_correct,
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
        }


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Measured on calibrated probabilities."""

    nll: float  # nats
    brier: float  # summed over the classes: 0 to 2
    ece_equal_mass: float
    classwise_ece: float
    top_k: TopK | None  # where there are more than five classes
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: tuple[Cut, ...]
    thresholds: tuple[Cut, ...]

    @property
    def ece(self) -> float:
        """Over 15 bins of equal width; it follows from the reliability bins."""
        return ece_of(self.reliability)

    def headline_dict(self) -> dict[str, Any]:
        return {
            "top_k": self.top_k.to_dict() if self.top_k else None,
            "nll": self.nll,
            "brier": self.brier,
            "ece": self.ece,
            "ece_equal_mass": self.ece_equal_mass,
            "classwise_ece": self.classwise_ece,
        }

    def curves_dict(self) -> dict[str, Any]:
        return {
            "reliability": [b.to_dict() for b in self.reliability],
            "risk_coverage": [cut.to_dict() for cut in self.risk_coverage],
            "thresholds": [cut.to_dict() for cut in self.thresholds],
        }


def measure_scores(
    probs: NDArray[np.float64], preds: BoolArray, labels: IntArray, nll_terms: NDArray[np.float64]
) -> Scores:
    """From calibrated `probs` and `preds` [N, K], `labels` int [N] and the images' own NLL, `nll_terms` [N]."""
    confidence, is_correct = confidence_of(probs, labels, preds)
    num_images, num_classes = probs.shape
    top = TopK(k=TOP_K, num_correct=num_in_top(probs, labels, TOP_K), num_images=num_images)
    return Scores(
        nll=exact_mean(nll_terms),
        brier=brier_score(probs, labels),
        ece_equal_mass=ece_equal_mass(probs, labels, preds=preds),
        classwise_ece=classwise_ece(probs, labels),
        top_k=top if num_classes > TOP_K else None,
        reliability=reliability_bins(confidence, is_correct),
        risk_coverage=risk_coverage(confidence, is_correct),
        thresholds=cuts_at(confidence, is_correct),
    )


@dataclass(frozen=True, kw_only=True)
class _WrittenTop:
    k: int
    num_correct: int


@dataclass(frozen=True, kw_only=True)
class _WrittenScores:
    nll: float
    brier: float
    ece_equal_mass: float
    classwise_ece: float
    top_k: _WrittenTop | None
    reliability: Any
    risk_coverage: Any
    thresholds: Any


def parse_scores(table: object, hits: Hits) -> Scores:
    """From `report.json`; BundleError where a number is missing or of another type, ValueError where it is out of range."""
    written = convert_record(table, _WrittenScores, where="report.json")
    num_images, num_correct = hits.num_images, hits.num_correct
    num_wrong = num_images - num_correct
    top = written.top_k
    if top is not None and not num_correct <= top.num_correct <= num_images:
        raise ValueError(f"'top_k' has {top.num_correct} of {num_images} right, of which {num_correct} come first.")
    return Scores(
        nll=in_range(written.nll, "nll"),
        brier=in_range(written.brier, "brier"),
        ece_equal_mass=in_range(written.ece_equal_mass, "ece_equal_mass"),
        classwise_ece=in_range(written.classwise_ece, "classwise_ece"),
        top_k=None if top is None else TopK(k=top.k, num_correct=top.num_correct, num_images=num_images),
        reliability=parse_bins(written.reliability, num_images, num_correct),
        risk_coverage=parse_cuts(written.risk_coverage, num_images, num_wrong, key="risk_coverage"),
        thresholds=parse_cuts(written.thresholds, num_images, num_wrong, key="thresholds"),
    )


THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MAX_CURVE_POINTS = 100


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The images with low < confidence <= high."""

    low: float
    high: float
    num_images: int
    num_correct: int
    mean_confidence: float | None  # None in an empty bin

    @property
    def accuracy(self) -> float | None:
        return self.num_correct / self.num_images if self.num_images else None

    @property
    def accuracy_ci95(self) -> Interval | None:
        """Wilson's."""
        return wilson_interval(self.num_correct, self.num_images) if self.num_images else None

    def to_dict(self) -> dict[str, Any]:
        interval = self.accuracy_ci95
        return asdict(self) | {"accuracy": self.accuracy, "accuracy_ci95": list(interval) if interval else None}


@dataclass(frozen=True, kw_only=True)
class ProbabilityBin:
    """All pairs of an image and a label with low < probability <= high."""

    low: float
    high: float
    num_pairs: int
    num_shown: int
    mean_prob: float | None  # None in an empty bin


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What happens where only answers with at least this `confidence` are taken, and the rest goes to a person."""

    confidence: float
    num_images: int  # all, answered or not
    num_automated: int
    num_errors: int  # among the automated

    @property
    def share(self) -> float:
        """Of the images, automated: the coverage."""
        return self.num_automated / self.num_images

    @property
    def error_rate(self) -> float | None:
        """Of the automated, wrong: the risk. None where none is automated."""
        return self.num_errors / self.num_automated if self.num_automated else None

    @property
    def error_rate_ci95(self) -> Interval | None:
        """Wilson's."""
        return wilson_interval(self.num_errors, self.num_automated) if self.num_automated else None

    def to_dict(self) -> dict[str, Any]:
        interval = self.error_rate_ci95
        return {
            "confidence": self.confidence,
            "num_automated": self.num_automated,
            "share": self.share,
            "num_errors": self.num_errors,
            "error_rate": self.error_rate,
            "error_rate_ci95": list(interval) if interval else None,
        }


def reliability_bins(
    confidence: NDArray[np.float64], is_correct: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width over `confidence` float64 [N] in [0, 1], with the right answers `is_correct` bool [N] in each.

    The reliability diagram of DeGroot and Fienberg (1983), The Statistician 32; the ECE is its mean gap.
    """
    bins = equal_width_bins(confidence, num_bins)
    num_images = np.bincount(bins, minlength=num_bins)
    num_correct = np.bincount(bins, weights=is_correct, minlength=num_bins)
    sums = np.bincount(bins, weights=confidence, minlength=num_bins)
    return tuple(
        ReliabilityBin(
            low=b / num_bins,
            high=(b + 1) / num_bins,
            num_images=int(n),
            num_correct=int(num_correct[b]),
            mean_confidence=float(sums[b] / n) if n else None,
        )
        for b, n in enumerate(num_images)
    )


def probability_bins(
    probs: NDArray[np.float64], targets: BoolArray, num_bins: int = NUM_BINS
) -> tuple[ProbabilityBin, ...]:
    """All N * K probabilities in bins of equal width, with how many of their labels are shown."""
    bins = equal_width_bins(probs, num_bins).ravel()
    num_pairs = np.bincount(bins, minlength=num_bins)
    num_shown = np.bincount(bins, weights=targets.ravel(), minlength=num_bins)
    sums = np.bincount(bins, weights=probs.ravel(), minlength=num_bins)
    return tuple(
        ProbabilityBin(
            low=b / num_bins,
            high=(b + 1) / num_bins,
            num_pairs=int(n),
            num_shown=int(num_shown[b]),
            mean_prob=float(sums[b] / n) if n else None,
        )
        for b, n in enumerate(num_pairs)
    )


def ece_of(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error that follows from the bins."""
    num_images = sum(b.num_images for b in bins)
    return sum(abs(b.num_images * (b.mean_confidence or 0.0) - b.num_correct) for b in bins) / num_images


def cuts_at(
    confidence: NDArray[np.float64], is_correct: NDArray[np.bool_], thresholds: Sequence[float] = THRESHOLDS
) -> tuple[Cut, ...]:
    """One Cut per threshold, from `confidence` float64 [N] and `is_correct` bool [N]; 0 takes every answer."""
    order = np.argsort(confidence, kind="stable")
    ascending = confidence[order]
    num_wrong_from = np.append(np.cumsum(~is_correct[order][::-1])[::-1], 0)
    first = np.searchsorted(ascending, np.asarray(thresholds), side="left")
    return tuple(
        Cut(
            confidence=float(threshold),
            num_images=len(confidence),
            num_automated=len(confidence) - int(i),
            num_errors=int(num_wrong_from[i]),
        )
        for threshold, i in zip(thresholds, first, strict=True)
    )


def risk_coverage(
    confidence: NDArray[np.float64], is_correct: NDArray[np.bool_], max_points: int = MAX_CURVE_POINTS
) -> tuple[Cut, ...]:
    """The error rate as ever less sure answers are taken too, the surest first, the last with all of them.

    A point lies between distinct confidences only, as equals cannot be told apart; of many, `max_points` evenly spread over
    the coverage. El-Yaniv and Wiener (2010), JMLR 11; Geifman and El-Yaniv (2017), NeurIPS.
    """
    descending = np.sort(confidence)[::-1]
    num_images = len(descending)
    wanted = np.linspace(1, num_images, min(max_points, num_images)).astype(np.int64)
    levels = np.unique(descending[wanted - 1])[::-1]
    return cuts_at(confidence, is_correct, levels.tolist())


def parse_bins(rows: object, num_images: int, num_correct: int) -> tuple[ReliabilityBin, ...]:
    """From `report.json`; BundleError where it is no list of bins.

    ValueError where they do not hold every image once or a mean lies outside its bin.
    """
    bins = convert_record(rows, tuple[ReliabilityBin, ...], where="report.json: reliability")
    for b in bins:
        mean = b.mean_confidence
        if not 0 <= b.num_correct <= b.num_images or (mean is None) != (b.num_images == 0):
            raise ValueError(f"the reliability bin up to {b.high} has impossible counts.")
        if mean is not None and not b.low - 1e-9 <= mean <= b.high + 1e-9:
            raise ValueError(f"the reliability bin up to {b.high} has a mean confidence of {mean}.")
    if sum(b.num_images for b in bins) != num_images or sum(b.num_correct for b in bins) != num_correct:
        raise ValueError("the reliability bins do not hold every image once.")
    return bins


@dataclass(frozen=True, kw_only=True)
class _WrittenCut:
    confidence: float
    num_automated: int
    num_errors: int


def parse_cuts(rows: object, num_images: int, num_wrong: int, *, key: str) -> tuple[Cut, ...]:
    """From `key` of `report.json`; BundleError where it is no list of cuts, ValueError where counts are impossible."""
    written = convert_record(rows, tuple[_WrittenCut, ...], where=f"report.json: {key}")
    cuts = tuple(Cut(num_images=num_images, **asdict(cut)) for cut in written)
    for cut in cuts:
        counts_fit = 0 <= cut.num_errors <= min(cut.num_automated, num_wrong) and cut.num_automated <= num_images
        if not counts_fit or not 0 <= cut.confidence <= 1 + 1e-9:
            raise ValueError(f"the threshold {cut.confidence} has impossible counts.")
    return cuts
