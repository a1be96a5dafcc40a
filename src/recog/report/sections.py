"""Metrics, calibration and training facts of a report as rows and small tables, for the page, the terminal and the model card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from recog.core.task import Task
from recog.core.text import span, visible
from recog.evaluation.results.facts import ScalingEvidence, SetEvidence, TrainingFacts, UnknownEvidence
from recog.evaluation.results.report import MulticlassReport, Report
from recog.evaluation.results.scores import TOP_K
from recog.evaluation.trust.conformal import MIN_CLASS_IMAGES
from recog.evaluation.trust.thresholds import DecisionThreshold
from recog.evaluation.trust.unknown import UnknownRule
from recog.report.text import number_range, percent, percent_range, plural

MAX_SIZES = 6  # of sets, each with its share
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
    """The sections on scaling, prediction sets and 'unknown'; a multi-label report has none."""
    return _TRUST[report.task](report)


def _trust_sections(report: MulticlassReport) -> list[Section]:
    sections = [_scaling(report, report.trust.scaling)]
    if report.trust.decision is not None:
        sections.append(_decision(report, report.trust.decision))
    if report.trust.sets is not None:
        sections.append(_sets(report.trust.sets))
    if report.trust.unknown is not None:
        sections.append(_unknown(report.trust.unknown))
    return sections


_TRUST: Mapping[Task, Callable[[Any], list[Section]]] = MappingProxyType(
    {"multiclass": _trust_sections, "multilabel": lambda report: []}
)


def _decision(report: MulticlassReport, rule: DecisionThreshold) -> Section:
    row = report.classes[rule.positive]
    here = f"{report.data.split or 'these images'}, n = {report.num_images:,}"
    return Section(
        title="Decision threshold",
        text=f"{decision_text(rule, report.class_names)} Otherwise the other class is predicted; the probabilities stay as they "
        f"are. Chosen on: {rule.data}; {plural(rule.num_images, 'image')}, {rule.num_positives:,} of them of this class.",
        columns=("Images", "Precision", "Recall", "F1"),
        rows=(
            (f"where chosen, n = {rule.num_images:,}", *map(percent, (rule.precision, rule.recall, rule.f1))),
            (here, *map(percent, (row.precision, row.recall, row.f1))),
        ),
    )


def decision_text(rule: DecisionThreshold, class_names: Sequence[str]) -> str:
    """The rule and its aim, as a sentence; of a threshold that nothing could be chosen by, with the reason."""
    why = f"chosen for {rule.aim}"
    if not rule.is_chosen:
        why = f"not chosen for {rule.aim}, as one of the classes has no image to choose by"
    return f"{visible(class_names[rule.positive])} is predicted above a probability of {rule.threshold:.3g}, {why}."


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
            f"AUROC, {_SCORE_NAMES[row.method]}",
            f"{row.mean_auroc:.3f}",
            f"lowest class {row.min_auroc:.3f}",
        )
        for row in rule.left_out
    ]
    return Section(title="Unknown images", text=_unknown_text(rule), columns=("", "Value", ""), rows=tuple(rows))


def _unknown_text(rule: UnknownRule) -> str:
    score = _SCORE_NAMES[rule.method]
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
        ("Mean set size", f"{evidence.mean_size:.2f}", ""),
    ]
    rows += [
        (f"Sets of {plural(size, 'class', 'classes')}", percent(count / evidence.num_images), plural(count, "image"))
        for size, count in evidence.sizes[:MAX_SIZES]
    ]
    if rest := sum(count for _, count in evidence.sizes[MAX_SIZES:]):
        rows.append(("Larger sets", percent(rest / evidence.num_images), plural(rest, "image")))
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


def _scaling(report: MulticlassReport, evidence: ScalingEvidence) -> Section:
    measured = "cross-validated answers" if report.data.is_cross_validated else report.data.split or "these images"
    here = f"{measured}, n = {report.num_images:,}"
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
    remarks = [facts.balance_effect, _cross_validation_remark(facts)]
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
    of_val = f" and {facts.num_val_images:,} of val" if facts.num_val_images else ""
    pruned = f"; {facts.num_pruned:,} of them left out for their labels (pruned.csv)" if facts.num_pruned else ""
    yield "Training images", f"{facts.num_images:,}{of_val}{pruned}"
    if facts.num_steps:
        stopped = "" if facts.num_epochs == facts.num_planned_epochs else f" of {facts.num_planned_epochs:,} planned"
        if facts.cut_at_step is not None:
            stopped += f", the last one cut short at step {facts.cut_at_step:,}"
        kept = f"weights of epoch {facts.best_epoch:,}" if facts.best_epoch else "no epoch improved on the start"
        yield "Epochs", f"{facts.num_epochs:,}{stopped}; {kept}"
        yield "Steps", f"{facts.num_steps:,} of {plural(facts.batch_size, 'image')}"
    is_applied = facts.balance_effect or facts.balance == "none"
    yield "Class balancing", facts.balance if is_applied else f"none needed ({facts.balance})"
    if facts.class_weights:
        yield "Class weights", span(min(facts.class_weights), max(facts.class_weights), ".2f")
    if (found := facts.cross_validation) is not None:
        yield (
            "Cross-validation",
            f"{found.num_repeats} x {found.num_folds} folds of {plural(found.num_images, 'image')}",
        )
        std = f", std {percent(found.accuracy_std)} over repeats" if found.num_repeats > 1 else ""
        yield "Cross-validated accuracy", f"{percent(found.accuracy)}{std}"
        yield "Cross-validated NLL", f"{found.nll:.3f}, temperature-scaled"
    if facts.duration_s is not None:
        part = f" {'since the last resume' if facts.is_resumed else 'to the sealed bundle'}"
        budget = "" if facts.budget_s is None else f"; budget {duration_text(facts.budget_s)}"
        yield "Run time", f"{duration_text(facts.duration_s)}{part}{budget}"


def _cross_validation_remark(facts: TrainingFacts) -> str:
    found = facts.cross_validation
    if found is None:
        return ""
    if found.num_images == facts.num_images:  # there is no validation split
        return (
            f"the {found.method} head with L2 {found.l2:g} was chosen by cross-validation over all training images, of which "
            f"the smallest class has {found.smallest_class:,}; its accuracy is {found.bias}"
        )
    return (
        f"the smallest class has {plural(found.smallest_class, 'training and validation image')}, "
        f"so the {found.method} head with L2 {found.l2:g} was chosen by cross-validation over both splits; "
        f"its accuracy is {found.bias}"
    )


def duration_text(seconds: float) -> str:
    """'48 s', '3 min 5 s', '2 h 7 min'."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    name: str
    value: str
    interval: str | None  # None if there is none
    means: str


_CLASS_METRICS = (  # name, attribute of the report, its format, meaning
    (f"Top-{TOP_K} accuracy", "top_k_accuracy", "percent", f"true class among the {TOP_K} most probable"),
    ("Matthews correlation", "matthews", "number", "1 is best; chance level: 0"),
    ("Macro AUROC", "auroc", "number", "mean over classes; chance level: 0.5"),
    ("Macro average precision", "average_precision", "number", "mean over classes; 1 is best"),
    ("Brier score", "scores.brier", "number", "0 is best, 2 is worst"),
    ("ECE", "scores.ece", "percent", "gap between confidence and accuracy"),
    ("ECE, equal mass", "scores.ece_equal_mass", "percent", "with the same number of images per bin"),
    ("Classwise ECE", "scores.classwise_ece", "percent", "over the probabilities of all classes"),
)
_LABEL_METRICS = (
    ("Micro precision", "micro.precision", "percent", "correct, of all predicted labels"),
    ("Micro recall", "micro.recall", "percent", "predicted, of all true labels"),
    ("Weighted F1", "weighted.f1", "percent", "labels weighted by their images"),
    ("F1 per image", "example_f1", "percent", "mean over images"),
    ("Hamming loss", "hamming_loss", "percent", "wrong, of all image-label pairs"),
    ("Macro AUROC", "auroc", "number", "mean over labels; chance level: 0.5"),
    ("Micro average precision", "micro_average_precision", "number", "over all image-label pairs"),
    ("Ranking precision", "ranking_average_precision", "number", "1: true labels rank above all others"),
    ("NLL", "nll", "number", "per label; uniform guess: 0.693"),
    ("Brier score", "brier", "number", "per label; uniform guess: 0.250"),
    ("ECE", "ece", "percent", "gap between probability and frequency"),
)
_METRICS = MappingProxyType({"multiclass": _CLASS_METRICS, "multilabel": _LABEL_METRICS})


def value_of(report: Report, path: str) -> tuple[float | None, tuple[float, float] | None]:
    """A metric and its interval, by the attribute of the report, such as 'macro.f1'; None where undefined."""
    value = attrgetter(path)(report)
    defined = None if value is None or isnan(value) else float(value)
    return defined, report.interval(path.removeprefix("scores.").replace(".", "_"))


def metric_rows(report: Report) -> list[MetricRow]:
    """The metrics beyond the headline that are defined."""
    rows = []
    for name, path, form, means in _METRICS[report.task]:
        value, bounds = value_of(report, path)
        if value is not None:
            text, span = (percent(value), percent_range) if form == "percent" else (f"{value:.3f}", number_range)
            rows.append(MetricRow(name=name, value=text, interval=span(bounds) if bounds else None, means=means))
    return rows
