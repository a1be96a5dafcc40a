"""Measures of the probabilities in a multiclass report: NLL, calibration, reliability and risk-coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.records import convert_record
from recog.evaluation.measures.arrays import BoolArray, IntArray
from recog.evaluation.measures.intervals import Hits
from recog.evaluation.measures.probability import (
    brier_score,
    classwise_ece,
    confidence_of,
    ece_equal_mass,
    exact_mean,
)
from recog.evaluation.measures.ranking import num_in_top
from recog.evaluation.results.reliability import (
    Cut,
    ReliabilityBin,
    cuts_at,
    ece_of,
    parse_bins,
    parse_cuts,
    reliability_bins,
    risk_coverage,
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
