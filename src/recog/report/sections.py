"""What the page, the terminal and the card say of the calibration: sections of sentences and one small table each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from recog.evaluation.results.report import Report
from recog.evaluation.results.training_facts import CrossValidation, TrainingFacts
from recog.evaluation.results.trust_evidence import ScalingEvidence, SetEvidence, UnknownEvidence
from recog.evaluation.trust.conformal import MIN_CLASS_IMAGES
from recog.evaluation.trust.unknown import UnknownRule
from recog.report.text import percent, percent_range, plural

MAX_SIZES = 6  # of sets, each with its share
_SCORE_NAMES = {
    "max_softmax": "the largest softmax",
    "energy": "energy",
    "knn": "distance to the nearest training images",
    "mahalanobis": "Mahalanobis distance",
    "energy_mahalanobis": "energy with Mahalanobis distance",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with its headings, the first column text and the others numbers, below a sentence that says what it means."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def trust_sections(report: Report) -> list[Section]:
    """Those that the report has; none for a report of an older format."""
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
            "Called unknown, of known classes",
            percent(evidence.reject_rate),
            f"{evidence.num_rejected:,} of {evidence.num_images:,}; 95% {percent_range(evidence.reject_rate_ci95)}",
        ),
        (
            "Right, of those that are answered",
            percent((kept - kept_errors) / kept if kept else None),
            f"{kept - kept_errors:,} of {kept:,}",
        ),
    ]
    rows += [
        (
            f"AUROC of {_score_name(row.method)}",
            f"{row.mean_auroc:.3f}",
            f"lowest of a class {row.min_auroc:.3f}",
        )
        for row in rule.left_out
    ]
    return Section(title="Unknown", text=_unknown_text(rule), columns=("", "Value", ""), rows=tuple(rows))


def _score_name(method: str) -> str:
    """In words; as it is, where an older report has a score that was retired."""
    return _SCORE_NAMES.get(method, method)


def _unknown_text(rule: UnknownRule) -> str:
    text = (
        f"With --reject an image that is unlike every class is called unknown, by {_score_name(rule.method)}: {rule.reason}. "
        f"The threshold lets at most {percent(rule.false_alarm_rate)} of images like the {rule.num_images:,} of calibration "
        f"({rule.data}) be called so by mistake; how many strange images it finds, nobody can promise."
    )
    if rule.num_left_out:
        text += (
            f" AUROC: {plural(rule.num_left_out, 'class', 'classes')} left out in turn, told apart from the others' images; "
            "0.5 is chance."
        )
    return text


def _sets(evidence: SetEvidence) -> Section:
    rows = [
        ("True class in the set", percent(evidence.coverage), f"95% {percent_range(evidence.coverage_ci95)}"),
        ("Classes in the set", f"{evidence.mean_size:.2f}", "on average"),
    ]
    shown = evidence.sizes[:MAX_SIZES]
    rows += [
        (f"Sets of {plural(size, 'class', 'classes')}", percent(count / evidence.num_images), f"{count:,} images")
        for size, count in shown
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
        f"The classes that an image may show ({evidence.method.upper()}), made to hold the true one for at least "
        f"{percent(1 - evidence.alpha)} of images like the {evidence.num_calibration_images:,} of calibration "
        f"({evidence.data}). Where no class fits, the most probable one is the set: that only raises the share."
    )
    if evidence.num_own_classes:
        text += f" The rate is held within each of {plural(evidence.num_own_classes, 'class', 'classes')}."
    if evidence.num_refused_classes:
        have = "has" if evidence.num_refused_classes == 1 else "have"
        text += (
            f" {plural(evidence.num_refused_classes, 'class', 'classes')} {have} fewer than {MIN_CLASS_IMAGES} calibration "
            "images, too few for a rate of their own, and share that of all images."
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
        "none": "Probabilities are the network's own softmax",
        "temperature": "Logits are divided by one temperature before the softmax",
        "vector": "Logits get a factor and an offset for each class before the softmax",
    }.get(method, f"Logits are scaled by {method}")
    fit = evidence.fit
    if fit is None:
        return f"{what}; nothing was fitted."
    return f"{what}: {fit.reason}. Calibration images: {fit.data}; {plural(fit.num_images, 'image')}."


def _scaling_row(
    images: str, nll_before: float, nll_after: float, ece_before: float, ece_after: float | None
) -> tuple[str, ...]:
    return images, f"{nll_before:.3f}", f"{nll_after:.3f}", percent(ece_before), percent(ece_after)


def training_sections(facts: TrainingFacts | None) -> list[Section]:
    """One section, or none where the report is not that of a training run."""
    if facts is None:
        return []
    said = [facts.balance_effect, _few_images(facts.cross_validation)]
    return [
        Section(
            title="Training",
            text=" ".join(f"{text[:1].upper()}{text[1:]}." for text in said if text)
            or "What was learnt from, and for how long.",
            columns=("", "What was done"),
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
    yield "Balance of classes", facts.balance if facts.balance_effect else f"{facts.balance}, nothing was done"
    if facts.class_weights:
        yield "Class weights", f"{min(facts.class_weights):.2f} to {max(facts.class_weights):.2f}"
    if (found := facts.cross_validation) is not None:
        yield (
            "Cross-validation",
            f"{found.num_repeats} x {found.num_folds} folds of {plural(found.num_images, 'image')}",
        )
        yield "Accuracy by it", f"{percent(found.accuracy)}, std {percent(found.accuracy_std)} over the repeats"
    if facts.duration_s is not None:
        part = " since it was resumed" if facts.is_resumed else ""
        yield "Run time", f"{duration_text(facts.duration_s)}{part}"


def _few_images(found: CrossValidation | None) -> str:
    if found is None:
        return ""
    return (
        f"a class has only {plural(found.smallest_class, 'training and validation image')}, too few for one split to choose "
        f"by: cross-validation over train and val chose L2 {found.l2:g}, which makes its accuracy slightly too good"
    )


def duration_text(seconds: float) -> str:
    """'48 s', '3 min 5 s', '2 h 7 min'."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
