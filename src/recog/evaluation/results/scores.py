"""Measures of the probabilities in a report: NLL, calibration, ranking, reliability and risk-coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.arrays import FloatArray, IntArray
from recog.evaluation.measures.bootstrap import MEASURES, bootstrap_intervals
from recog.evaluation.measures.intervals import Hits, Interval
from recog.evaluation.measures.probability import (
    brier_score,
    classwise_ece,
    confidence_of,
    ece_equal_mass,
    nll_terms,
)
from recog.evaluation.measures.ranking import auroc, average_precision, num_in_top
from recog.evaluation.measures.resampling import Bootstrap
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
from recog.evaluation.results.report_format import measure_in, parse_bootstrap

_Value = TypeVar("_Value")
TOP_K = 5
BOOTSTRAP = "stratified by class; percentiles, for the ECE inverted test"


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
class ClassScores:
    """Of one class; None where undefined."""

    auroc: float | None
    average_precision: float | None
    f1_ci95: Interval | None
    auroc_ci95: Interval | None
    average_precision_ci95: Interval | None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Measured on calibrated probabilities."""

    nll: float  # nats
    brier: float  # summed over the classes: 0 to 2
    ece_equal_mass: float
    classwise_ece: float
    top_k: TopK | None  # where there are more than five classes
    class_auroc: tuple[float | None, ...]  # one against the rest, in label order; None where undefined
    class_average_precision: tuple[float | None, ...]
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: tuple[Cut, ...]
    thresholds: tuple[Cut, ...]
    bootstrap: Bootstrap

    @property
    def ece(self) -> float:
        """Over 15 bins of equal width; it follows from the reliability bins."""
        return ece_of(self.reliability)

    @property
    def auroc(self) -> float | None:
        """Macro mean over the classes where it is defined."""
        return _mean(self.class_auroc)

    @property
    def average_precision(self) -> float | None:
        """Macro mean over the classes where it is defined."""
        return _mean(self.class_average_precision)

    @property
    def num_ranked_classes(self) -> int:
        """Classes with an AUROC: neither absent nor the only one."""
        return sum(value is not None for value in self.class_auroc)

    def interval(self, measure: str) -> Interval | None:
        """The bootstrap interval of one of `bootstrap.MEASURES`."""
        return self.bootstrap.intervals.get(measure)

    def of_class(self, k: int) -> ClassScores:
        return class_scores(k, self.class_auroc, self.class_average_precision, self.bootstrap)

    def headline_dict(self) -> dict[str, Any]:
        return {
            "top_k": self.top_k.to_dict() if self.top_k else None,
            "nll": self.nll,
            "brier": self.brier,
            "ece": self.ece,
            "ece_equal_mass": self.ece_equal_mass,
            "classwise_ece": self.classwise_ece,
            "auroc": self.auroc,
            "average_precision": self.average_precision,
            "num_ranked_classes": self.num_ranked_classes,
            "bootstrap": self.bootstrap.to_dict(BOOTSTRAP),
        }

    def curves_dict(self) -> dict[str, Any]:
        return {
            "reliability": [b.to_dict() for b in self.reliability],
            "risk_coverage": [cut.to_dict() for cut in self.risk_coverage],
            "thresholds": [cut.to_dict() for cut in self.thresholds],
        }


def measure_scores(calibrated_logits: FloatArray, probs: NDArray[np.float64], labels: IntArray) -> Scores:
    """From `calibrated_logits` float [N, K], their softmax `probs` [N, K] and `labels` int [N]."""
    terms = nll_terms(calibrated_logits, labels)
    confidence, is_correct = confidence_of(probs, labels)
    num_images, num_classes = probs.shape
    top = TopK(k=TOP_K, num_correct=num_in_top(probs, labels, TOP_K), num_images=num_images)
    return Scores(
        nll=float(terms.mean()),
        brier=brier_score(probs, labels),
        ece_equal_mass=ece_equal_mass(probs, labels),
        classwise_ece=classwise_ece(probs, labels),
        top_k=top if num_classes > TOP_K else None,
        class_auroc=_or_none(auroc(probs, labels)),
        class_average_precision=_or_none(average_precision(probs, labels)),
        reliability=reliability_bins(confidence, is_correct),
        risk_coverage=risk_coverage(confidence, is_correct),
        thresholds=cuts_at(confidence, is_correct),
        bootstrap=bootstrap_intervals(probs, labels, terms),
    )


def parse_scores(table: Mapping[str, Any], *, support: Sequence[int], num_correct: int) -> Scores:
    """From `report.json`; KeyError, TypeError or ValueError where a number is missing, of another kind or out of range."""
    num_images = sum(support)
    num_wrong = num_images - num_correct
    top = table["top_k"]
    return Scores(
        nll=measure_in(table, "nll"),
        brier=measure_in(table, "brier"),
        ece_equal_mass=measure_in(table, "ece_equal_mass"),
        classwise_ece=measure_in(table, "classwise_ece"),
        top_k=None if top is None else _parse_top(top, num_correct, num_images),
        class_auroc=_parse_class_values(table["classes"], "auroc", support),
        class_average_precision=_parse_class_values(table["classes"], "average_precision", support),
        reliability=parse_bins(table["reliability"], num_images, num_correct),
        risk_coverage=parse_cuts(table["risk_coverage"], num_images, num_wrong),
        thresholds=parse_cuts(table["thresholds"], num_images, num_wrong),
        bootstrap=parse_bootstrap(table["bootstrap"], table["classes"], MEASURES),
    )


def class_scores(
    k: int, auroc: Sequence[float | None], average_precision: Sequence[float | None], bootstrap: Bootstrap
) -> ClassScores:
    """Of class `k`, from what is known of all classes."""
    intervals = bootstrap.class_intervals
    return ClassScores(
        auroc=auroc[k],
        average_precision=average_precision[k],
        f1_ci95=intervals["f1"][k],
        auroc_ci95=_at(intervals["auroc"], k),
        average_precision_ci95=_at(intervals["average_precision"], k),
    )


def _at(values: Sequence[_Value | None], k: int) -> _Value | None:
    """Of class `k`; None where the data are too large for them."""
    return values[k] if values else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _or_none(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _parse_top(row: Mapping[str, Any], num_correct: int, num_images: int) -> TopK:
    top = TopK(k=int(row["k"]), num_correct=int(row["num_correct"]), num_images=num_images)
    if not num_correct <= top.num_correct <= num_images:
        raise ValueError(f"'top_k' has {top.num_correct} of {num_images} right, of which {num_correct} come first.")
    return top


def _parse_class_values(
    rows: Sequence[Mapping[str, Any]], key: str, support: Sequence[int]
) -> tuple[float | None, ...]:
    values = tuple(None if row[key] is None else measure_in(row, key) for row in rows)
    for row, value, count in zip(rows, values, support, strict=True):
        if (value is None) != (count in (0, sum(support))):
            raise ValueError(f"'{key}' of {row['name']!r} does not fit its {count} images.")
    return values
