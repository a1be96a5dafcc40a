"""The measures beyond accuracy as the page and the terminal show them: name, value, interval, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

from recog.evaluation.results.multilabel_report import MultilabelReport
from recog.evaluation.results.report import Report
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
        _number(
            "Macro average precision",
            scores.average_precision,
            scores.interval("average_precision"),
            f"{ranked}; 1 is best",
        ),
        _number("Brier score", scores.brier, scores.interval("brier"), "0 is best, 2 is worst"),
        _rate("ECE", scores.ece, scores.interval("ece"), "gap of confidence and accuracy"),
        _rate(
            "ECE, equal mass",
            scores.ece_equal_mass,
            scores.interval("ece_equal_mass"),
            "the same, bins of equally many images",
        ),
        _rate(
            "Classwise ECE",
            scores.classwise_ece,
            scores.interval("classwise_ece"),
            "the same, every class's probability; chance adds to it",
        ),
    ]
    if scores.top_k is not None:
        means = f"the true class is among the {scores.top_k.k} most probable"
        rows.insert(
            0, _rate(f"Top-{scores.top_k.k} accuracy", scores.top_k.accuracy, scores.top_k.accuracy_ci95, means)
        )
    return [row for row in rows if row is not None]


def label_measure_rows(report: MultilabelReport) -> list[MeasureRow]:
    """Of a multi-label report, those beyond its headline."""
    ranked = f"over {plural(report.num_ranked_labels, 'label')}"
    interval = report.interval
    rows = [
        _rate(
            "Micro precision",
            _defined(report.micro.precision),
            interval("micro_precision"),
            "of all labels said, right",
        ),
        _rate("Micro recall", _defined(report.micro.recall), interval("micro_recall"), "of all labels shown, said"),
        _rate("Weighted F1", _defined(report.weighted.f1), interval("weighted_f1"), "each label by its images"),
        _rate("F1 per image", report.example_f1, interval("example_f1"), "mean over the images"),
        _rate("Hamming loss", report.hamming_loss, interval("hamming_loss"), "of all image-label pairs, wrong"),
        _number("Macro AUROC", report.auroc, interval("auroc"), f"{ranked}; 0.5 is chance"),
        _number(
            "Micro average precision",
            report.micro_average_precision,
            interval("micro_average_precision"),
            "over all image-label pairs",
        ),
        _number(
            "Ranking precision",
            report.ranking_average_precision,
            interval("ranking_average_precision"),
            "an image's own labels come first: 1",
        ),
        _number("NLL", report.nll, interval("nll"), "per label; a coin toss has 0.693"),
        _number("Brier score", report.brier, interval("brier"), "per label; a coin toss has 0.250"),
        _rate("ECE", report.ece, interval("ece"), "gap of probability and frequency"),
    ]
    return [row for row in rows if row is not None]


def _defined(value: float) -> float | None:
    return None if isnan(value) else value


def _number(name: str, value: float | None, interval: _Interval, means: str) -> MeasureRow | None:
    if value is None:
        return None
    return MeasureRow(name=name, value=f"{value:.3f}", interval=interval and number_range(interval), means=means)


def _rate(name: str, value: float | None, interval: _Interval, means: str) -> MeasureRow | None:
    if value is None:
        return None
    return MeasureRow(name=name, value=percent(value), interval=interval and percent_range(interval), means=means)
