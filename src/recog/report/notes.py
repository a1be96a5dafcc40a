"""Notes on how far a report can be relied on: overlap with training, excluded files, absent classes, small n."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from recog.core.task import Task
from recog.evaluation.results.facts import Trust
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.trust.scaling import AS_REQUESTED, TOO_FEW, UNBOUNDED
from recog.evaluation.trust.thresholds import FEW_IMAGES
from recog.report.text import listing, percent, percent_range, plural

WARNING, MAX_KIND_WORDS = "warning: ", 3  # as in "warning: label conflict: ..."
WIDE_INTERVAL = 0.1  # high - low of the interval
SMALL_SUPPORT = 20  # a class with fewer images has a recall interval about 40 points wide, at 50 %


@dataclass(frozen=True, kw_only=True)
class Note:
    title: str
    text: str
    is_warning: bool = True  # False: for information
    items: tuple[tuple[str, str], ...] = ()  # (name, reason)
    reason: str = ""  # printed below the title in the terminal's summary, which leaves `text` out


def notes(report: Report) -> list[Note]:
    """The notes that apply, most important first."""
    return warnings_first([*_data_notes(report), *_NOTES[report.task](report)])


def warnings_first(found: Sequence[Note]) -> list[Note]:
    return sorted(found, key=lambda note: not note.is_warning)


def notes_on_data(remarks: Sequence[str]) -> list[Note]:
    """The warnings among the `remarks` on the data: copies under two labels, leakage, unusable files, small classes."""
    found = []
    for text in (text.removeprefix(WARNING) for text in remarks if text.startswith(WARNING)):
        kind, colon, rest = text.partition(": ")
        title, more = (kind, rest) if colon and len(kind.split()) <= MAX_KIND_WORDS else (text, "")
        found.append(Note(title=title[:1].upper() + title[1:], text=more[:1].upper() + more[1:]))
    return found


def _data_notes(report: Report) -> Iterator[Note]:
    data, images = report.data, plural(report.num_images, "image")
    if data.is_cross_validated:
        yield Note(
            title=f"Cross-validated on all {images}: no test split was measured",
            text="Each image was answered by a head fitted without it; the bundle's head was fitted on all images. Head and "
            "calibration were chosen by the same answers, so the numbers are slightly optimistic; new images give an unbiased "
            "estimate (recog evaluate). Prediction sets and 'unknown' are not measured, as no image is left for it.",
        )
    elif data.num_seen_in_training is None:
        yield Note(
            title="Overlap with the training data was not checked",
            text="If the model was trained on some of these images, the numbers are optimistic.",
            is_warning=False,
        )
    elif data.num_seen_in_training:
        yield Note(
            title=f"{data.num_seen_in_training:,} of {images} used in training",
            text="The model was trained on these images, so the numbers are optimistic for new images. "
            "Use images that it has not seen for an unbiased estimate.",
        )
    if data.num_seen_in_selection and not data.is_cross_validated:
        yield Note(
            title=f"{data.num_seen_in_selection:,} of {images} used in model selection and calibration",
            text="These validation images selected or calibrated the model, so the numbers are optimistically biased; "
            "use an untouched test split for an unbiased estimate.",
        )
    if data.views != "one":
        yield Note(
            title=f"Averages over several views of an image (--views {data.views})",
            text="They take several times as long as one view. Confidences, prediction sets and 'unknown' were calibrated on one "
            "view.",
            is_warning=False,
        )
    if data.num_left_out_as_seen:
        yield Note(
            title=f"{plural(data.num_left_out_as_seen, 'image')} not measured, because they were used to make the model",
            text="They were used in training, model selection or calibration. --include-seen measures them too.",
            is_warning=False,
        )
    if data.test_openings is not None and data.test_openings > 1:
        yield Note(
            title=f"The test split has been used {data.test_openings:,} times",
            text="Choices made after looking at it bias these numbers upwards.",
        )
    if data.excluded:
        yield Note(
            title=f"{len(data.excluded):,} of {plural(report.num_found, 'image')} could not be used",
            text=f"They are not measured: n is {report.num_images:,} instead of {report.num_found:,}.",
            items=data.excluded,
        )


def _uncalibrated(method: str, reason: str) -> Iterator[Note]:
    """A warning where nothing could be fitted; for information where calibration was tried and does not improve anything.

    `reason` is '' where it is not known.
    """
    if method != "none":
        return
    if reason in (TOO_FEW, UNBOUNDED):
        title, why = "Confidences could not be calibrated", reason
    elif reason in ("", AS_REQUESTED):
        title, why = "Confidences are not calibrated", reason or "no calibration was fitted"
    else:
        title, why = "Confidences are used as they are", f"calibration was tried and left out, as {reason}"
    yield Note(
        title=title,
        text=f"They are the network's own: {why}. They may be too high or too low; the ECE shows by how much.",
        is_warning=reason in ("", TOO_FEW, UNBOUNDED),
        reason=reason or why,
    )


def _class_notes(report: MulticlassReport) -> Iterator[Note]:
    fit = report.trust.scaling.fit
    yield from _uncalibrated(report.calibration_method, "" if fit is None else fit.reason)
    yield from _weak_decision(report)
    yield from _not_as_promised(report.trust)
    if absent := report.absent_classes:
        yield Note(
            title=f"{len(absent):,} of {plural(report.num_classes, 'class', 'classes')} without an image here",
            text=f"{listing(absent)}: precision, recall and F1 are undefined, and the means cover "
            f"the other {report.num_classes - len(absent):,}.",
        )
    if never := report.never_predicted_classes:
        yield Note(
            title=f"{plural(len(never), 'class', 'classes')} never predicted",
            text=f"{listing(never)}: recall and F1 are 0. Precision is undefined and counts as 0 in the means.",
        )
    yield from _small_sample(report, "accuracy", "accuracy")
    if small := [row.name for row in report.classes if 0 < row.support < SMALL_SUPPORT]:
        present = report.num_classes - report.num_absent_classes
        which = f"All {present:,}" if len(small) == present else f"{len(small):,} of {present:,}"
        yield Note(
            title=f"{which} classes have fewer than {SMALL_SUPPORT} of these images",
            text=f"{listing(small)}: their intervals are wide.",
            is_warning=False,
        )


def _not_as_promised(trust: Trust) -> Iterator[Note]:
    """Where chance does not explain how often sets lack the true class, or images of known classes are called unknown."""
    sets, unknown = trust.sets, trust.unknown
    differ = "These images differ from the {:,} calibration images ({}), or those were too few to tell."
    if sets is not None and sets.coverage_ci95[1] < 1 - sets.alpha:
        yield Note(
            title=f"Prediction sets contain the true class less often than promised: {percent(sets.coverage)} of "
            f"{plural(sets.num_images, 'image')} instead of {percent(1 - sets.alpha)}",
            text=f"95% interval {percent_range(sets.coverage_ci95)}. {differ.format(sets.num_calibration_images, sets.data)}",
            is_warning=False,
        )
    if unknown is not None and unknown.reject_rate_ci95[0] > unknown.rule.false_alarm_rate:
        rule = unknown.rule
        yield Note(
            title=f"{percent(unknown.reject_rate)} of {plural(unknown.num_images, 'image')} of known classes would be answered "
            f"unknown instead of {percent(rule.false_alarm_rate)}",
            text=f"With --reject. 95% interval {percent_range(unknown.reject_rate_ci95)}. "
            f"{differ.format(rule.num_images, rule.data)}",
            is_warning=False,
        )


def _weak_decision(report: MulticlassReport) -> Iterator[Note]:
    rule = report.trust.decision
    if rule is None:
        return
    fewest = min(rule.num_positives, rule.num_images - rule.num_positives)
    if fewest < FEW_IMAGES:
        yield Note(
            title=f"Threshold chosen on few images: {fewest:,} of one class",
            text=f"Another sample may give another one.{'' if rule.is_chosen else ' Without an image of one class it is 0.5.'}",
        )


def _label_notes(report: MultilabelReport) -> Iterator[Note]:
    yield from _uncalibrated(report.calibration_method, report.calibration_reason)
    if absent := report.absent_classes:
        yield Note(
            title=f"{len(absent):,} of {plural(report.num_classes, 'label')} without an image here",
            text=f"{listing(absent)}: recall, F1 and average precision are undefined, and the macro means cover "
            f"the other {report.num_classes - len(absent):,}.",
        )
    if always := [row.name for row in report.classes if row.support == report.num_images]:
        yield Note(
            title=f"{len(always):,} of {plural(report.num_classes, 'label')} on every image here",
            text=f"{listing(always)}: without negative images, AUROC and average precision are undefined.",
        )
    if weak := report.weak_thresholds:
        yield Note(
            title=f"{plural(len(weak), 'threshold')} chosen on few images",
            text=f"{listing(weak)}: the calibration data have fewer than {FEW_IMAGES} images with the label. "
            "Where they have none, the threshold is 0.5.",
            is_warning=False,
        )
    yield from _small_sample(report, "mAP", "mean_average_precision")


def _small_sample(report: Report, name: str, metric: str) -> Iterator[Note]:
    interval = report.interval(metric)
    if interval is not None and interval[1] - interval[0] > WIDE_INTERVAL:
        yield Note(
            title=f"Small sample: {plural(report.num_images, 'image')}",
            text=f"The 95% interval of the {name} is {percent_range(interval)}. "
            "To compare two models, use recog compare, which tests them on the same images.",
        )


_NOTES: Mapping[Task, Callable[[Any], Iterator[Note]]] = MappingProxyType(
    {"multiclass": _class_notes, "multilabel": _label_notes}
)
