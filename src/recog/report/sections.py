"""Metrics, calibration and training facts of a report as rows and small tables, for the page, the terminal and the model card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan

from recog.evaluation.results.multilabel_report import MultilabelReport
from recog.evaluation.results.report import Report
from recog.evaluation.results.training_facts import CrossValidation, TrainingFacts
from recog.evaluation.results.trust_evidence import ScalingEvidence, SetEvidence, UnknownEvidence
from recog.evaluation.trust.conformal import MIN_CLASS_IMAGES
from recog.evaluation.trust.unknown import UnknownRule
from recog.report.text import number_range, percent, percent_range, plural

MAX_SIZES = 6  # of sets, each with its share
_Interval = tuple[float, float] | None
_SCORE_NAMES = {
    "max_softmax": "max softmax",
    "energy": "energy",
    "knn": "k-NN distance",
    "mahalanobis": "Mahalanobis distance",
    "energy_mahalanobis": "energy + Mahalanobis",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A small table below an explanation; the first column is text, the others are numbers."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def trust_sections(report: Report) -> list[Section]:
    """The sections for the calibration parts of the report."""
    if report.trust is None:
        return []
    sections = [_scaling(report, report.trust.scaling)]
    if report.trust.sets is not None:
        sections.append(_sets(report.trust.sets))
    if report.trust.unknown is not None:
        sections.append(_unknown(report.trust.unknown))
    return sections


def _unknown(evidence: UnknownEvidence) -> Section:
    rule = evidence.rule
    kept, kept_errors = (
        evidence.num_images - evidence.num_rejected,
        evidence.num_errors - evidence.num_rejected_errors,
    )
    rows = [
        (
            "Known classes answered unknown",
            percent(evidence.reject_rate),
            f"{evidence.num_rejected:,} of {evidence.num_images:,}; 95% {percent_range(evidence.reject_rate_ci95)}",
        ),
        (
            "Accuracy of the other images",
            percent((kept - kept_errors) / kept if kept else None),
            f"{kept - kept_errors:,} of {kept:,}",
        ),
    ]
    rows += [
        (
            f"AUROC, {_SCORE_NAMES.get(row.method, row.method)}",
            f"{row.mean_auroc:.3f}",
            f"lowest class {row.min_auroc:.3f}",
        )
        for row in rule.left_out
    ]
    return Section(title="Unknown images", text=_unknown_text(rule), columns=("", "Value", ""), rows=tuple(rows))


def _unknown_text(rule: UnknownRule) -> str:
    score = _SCORE_NAMES.get(rule.method, rule.method)
    text = (
        f"With --reject, an image unlike every class is answered 'unknown'. Score: {score}; {rule.reason}. "
        f"The threshold allows {percent(rule.false_alarm_rate)} false alarms on images like the {rule.num_images:,} calibration "
        f"images ({rule.data}); detection of unfamiliar images is not guaranteed."
    )
    if rule.num_left_out:
        left_out = plural(rule.num_left_out, "class", "classes")
        text += f" AUROC: {left_out} left out in turn and separated from the others; chance level 0.5."
    return text


def _sets(evidence: SetEvidence) -> Section:
    rows = [
        ("Coverage of the true class", percent(evidence.coverage), f"95% {percent_range(evidence.coverage_ci95)}"),
        ("Mean set size", f"{evidence.mean_size:.2f}", "classes"),
    ]
    rows += [
        (f"Sets of {plural(size, 'class', 'classes')}", percent(count / evidence.num_images), f"{count:,} images")
        for size, count in evidence.sizes[:MAX_SIZES]
    ]
    if rest := sum(count for _, count in evidence.sizes[MAX_SIZES:]):
        rows.append(("Larger sets", percent(rest / evidence.num_images), f"{rest:,} images"))
    return Section(
        title="Prediction sets",
        text=_sets_text(evidence),
        columns=(f"Of {plural(evidence.num_images, 'image')}", "Value", ""),
        rows=tuple(rows),
    )


def _sets_text(evidence: SetEvidence) -> str:
    text = (
        f"Conformal prediction sets ({evidence.method.upper()}) contain the true class for at least "
        f"{percent(1 - evidence.alpha)} of images like the {evidence.num_calibration_images:,} calibration images "
        f"({evidence.data}). A set is never empty: it contains at least the most probable class."
    )
    if evidence.num_own_classes:
        text += f" Coverage holds within each of {plural(evidence.num_own_classes, 'class', 'classes')}."
    if evidence.num_refused_classes:
        have = "has" if evidence.num_refused_classes == 1 else "have"
        text += (
            f" {plural(evidence.num_refused_classes, 'class', 'classes')} {have} fewer than {MIN_CLASS_IMAGES} calibration "
            "images and use the threshold of all images."
        )
    return text


def _scaling(report: Report, evidence: ScalingEvidence) -> Section:
    here = f"{report.data.split or 'these images'}, n = {report.num_images:,}"
    fit = evidence.fit
    rows = [_scaling_row(here, evidence.nll_before, report.nll, evidence.ece_before, report.ece)]
    if fit is not None and fit.num_folds:
        fitted = f"cross-validated, n = {fit.num_images:,}"
        rows.insert(0, _scaling_row(fitted, fit.nll_before, fit.nll_after, fit.ece_before, fit.ece_after))
    return Section(
        title="Calibration",
        text=_scaling_text(report.calibration_method, evidence),
        columns=("Images", "NLL before", "after", "ECE before", "after"),
        rows=tuple(rows),
    )


def _scaling_text(method: str, evidence: ScalingEvidence) -> str:
    what = {
        "none": "Probabilities are the softmax of the logits",
        "temperature": "Logits are divided by a temperature before the softmax",
        "vector": "Logits are scaled and shifted per class before the softmax",
    }[method]
    fit = evidence.fit
    if fit is None:
        return f"{what}."
    return f"{what}: {fit.reason}. Calibration images: {fit.data}; {plural(fit.num_images, 'image')}."


def _scaling_row(
    images: str, nll_before: float, nll_after: float, ece_before: float, ece_after: float | None
) -> tuple[str, ...]:
    return images, f"{nll_before:.3f}", f"{nll_after:.3f}", percent(ece_before), percent(ece_after)


def training_sections(facts: TrainingFacts | None) -> list[Section]:
    """One section, or none if the report does not come from a training run."""
    if facts is None:
        return []
    remarks = [facts.balance_effect, _cross_validation_remark(facts.cross_validation)]
    return [
        Section(
            title="Training",
            text=" ".join(f"{text[:1].upper()}{text[1:]}." for text in remarks if text)
            or "Data and settings of this run.",
            columns=("", "Value"),
            rows=tuple(_rows(facts)),
        )
    ]


def _rows(facts: TrainingFacts) -> Iterator[tuple[str, str]]:
    yield "Network", facts.network
    yield "Recipe", facts.recipe
    yield "Training images", f"{facts.num_images:,}"
    if facts.num_steps:
        stopped = "" if facts.num_epochs == facts.num_planned_epochs else f" of {facts.num_planned_epochs:,} planned"
        yield "Epochs", f"{facts.num_epochs:,}{stopped}; weights of epoch {facts.best_epoch:,}"
        yield "Steps", f"{facts.num_steps:,} of {plural(facts.batch_size, 'image')}"
    yield "Class balancing", facts.balance if facts.balance_effect else f"none needed ({facts.balance})"
    if facts.class_weights:
        yield "Class weights", f"{min(facts.class_weights):.2f} to {max(facts.class_weights):.2f}"
    if (found := facts.cross_validation) is not None:
        yield (
            "Cross-validation",
            f"{found.num_repeats} x {found.num_folds} folds of {plural(found.num_images, 'image')}",
        )
        yield "Cross-validated accuracy", f"{percent(found.accuracy)}, std {percent(found.accuracy_std)} over repeats"
    if facts.duration_s is not None:
        part = " since the last resume" if facts.is_resumed else ""
        yield "Run time", f"{duration_text(facts.duration_s)}{part}"


def _cross_validation_remark(found: CrossValidation | None) -> str:
    if found is None:
        return ""
    return (
        f"the smallest class has {plural(found.smallest_class, 'training and validation image')}, so L2 {found.l2:g} was chosen "
        "by cross-validation over both splits; its accuracy is slightly optimistic"
    )


def duration_text(seconds: float) -> str:
    """'48 s', '3 min 5 s', '2 h 7 min'."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    name: str
    value: str
    interval: str | None  # None where there is none
    means: str


def measure_rows(report: Report) -> list[MeasureRow]:
    """The metrics beyond the headline that are defined."""
    scores = report.scores
    ranked = f"over {plural(scores.num_ranked_classes, 'class', 'classes')}"
    rows = [
        _number("Matthews correlation", report.matthews, scores.interval("matthews"), "1 is best; chance level: 0"),
        _number("Macro AUROC", scores.auroc, scores.interval("auroc"), f"{ranked}; chance level: 0.5"),
        _number(
            "Macro average precision",
            scores.average_precision,
            scores.interval("average_precision"),
            f"{ranked}; 1 is best",
        ),
        _number("Brier score", scores.brier, scores.interval("brier"), "0 is best, 2 is worst"),
        _rate("ECE", scores.ece, scores.interval("ece"), "gap between confidence and accuracy"),
        _rate(
            "ECE, equal mass",
            scores.ece_equal_mass,
            scores.interval("ece_equal_mass"),
            "with the same number of images per bin",
        ),
        _rate(
            "Classwise ECE",
            scores.classwise_ece,
            scores.interval("classwise_ece"),
            "over the probabilities of all classes",
        ),
    ]
    if scores.top_k is not None:
        means = f"true class among the {scores.top_k.k} most probable"
        rows.insert(
            0, _rate(f"Top-{scores.top_k.k} accuracy", scores.top_k.accuracy, scores.top_k.accuracy_ci95, means)
        )
    return [row for row in rows if row is not None]


def label_measure_rows(report: MultilabelReport) -> list[MeasureRow]:
    """The same for a multi-label report."""
    ranked = f"over {plural(report.num_ranked_labels, 'label')}"
    interval = report.interval
    rows = [
        _rate(
            "Micro precision",
            _defined(report.micro.precision),
            interval("micro_precision"),
            "correct, of all predicted labels",
        ),
        _rate("Micro recall", _defined(report.micro.recall), interval("micro_recall"), "predicted, of all true labels"),
        _rate("Weighted F1", _defined(report.weighted.f1), interval("weighted_f1"), "labels weighted by their images"),
        _rate("F1 per image", report.example_f1, interval("example_f1"), "mean over images"),
        _rate("Hamming loss", report.hamming_loss, interval("hamming_loss"), "wrong, of all image-label pairs"),
        _number("Macro AUROC", report.auroc, interval("auroc"), f"{ranked}; chance level: 0.5"),
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
            "1: true labels rank above all others",
        ),
        _number("NLL", report.nll, interval("nll"), "per label; uniform guess: 0.693"),
        _number("Brier score", report.brier, interval("brier"), "per label; uniform guess: 0.250"),
        _rate("ECE", report.ece, interval("ece"), "gap between probability and frequency"),
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
