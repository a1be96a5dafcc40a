"""The measures beyond accuracy as the page and the terminal show them: name, value, interval, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

from recog.evaluation.report import Report
from recog.report.text import number_range, percent, percent_range, plural

_Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    name: str
    value: str
    interval: str | None  # None where there is none
    means: str


def measure_rows(report: Report) -> list[MeasureRow]:
    """Those that the report has: a file of format 1 has Matthews only."""
    scores = report.scores
    ranked = f"over {plural(scores.num_ranked_classes, 'class', 'classes')}"
    rows = [
        _number("Matthews", report.matthews, scores.interval("matthews"), "1 is best, 0 is chance"),
        _number("Macro AUROC", scores.auroc, scores.interval("auroc"), f"{ranked}; 0.5 is chance"),
        _number("Macro average precision", scores.average_precision, None, f"{ranked}; 1 is best"),
        _number("Brier score", scores.brier, scores.interval("brier"), "0 is best, 2 is worst"),
        _rate("ECE", scores.ece, scores.interval("ece"), "gap of confidence and accuracy"),
        _rate("ECE, equal mass", scores.ece_equal_mass, None, "the same, bins of equally many images"),
        _rate("Classwise ECE", scores.classwise_ece, None, "the same, every class's probability"),
    ]
    if scores.top_k is not None:
        means = f"the true class is among the {scores.top_k.k} most probable"
        rows.insert(
            0, _rate(f"Top-{scores.top_k.k} accuracy", scores.top_k.accuracy, scores.top_k.accuracy_ci95, means)
        )
    return [row for row in rows if row is not None]


def _number(name: str, value: float | None, interval: _Interval, means: str) -> MeasureRow | None:
    if value is None:
        return None
    return MeasureRow(name=name, value=f"{value:.3f}", interval=interval and number_range(interval), means=means)


def _rate(name: str, value: float | None, interval: _Interval, means: str) -> MeasureRow | None:
    if value is None:
        return None
    return MeasureRow(name=name, value=percent(value), interval=interval and percent_range(interval), means=means)
