"""Notes on how far a report can be relied on: split used, overlap with training, excluded files, absent classes, small n."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from recog.evaluation.results.multilabel_report import MultilabelReport
from recog.evaluation.results.read import AnyReport
from recog.evaluation.results.report import Report
from recog.evaluation.trust.thresholds import FEW_IMAGES
from recog.report.text import listing, percent_range, plural

WIDE_INTERVAL = 0.1  # high - low of the interval
SMALL_SUPPORT = 20  # a class with fewer images has a recall interval about 40 points wide, at 50 %


@dataclass(frozen=True, kw_only=True)
class Note:
    title: str
    text: str
    is_warning: bool = True  # False: for information
    items: tuple[tuple[str, str], ...] = ()  # (name, reason)


def notes(report: AnyReport) -> list[Note]:
    """The notes that apply, most important first."""
    found = (note(report) for note in (*_DATA_NOTES, *_TASK_NOTES[type(report)]))
    return [note for note in found if note is not None]


def _seen_in_training(report: AnyReport) -> Note | None:
    seen = report.data.num_seen_in_training
    if seen == 0:
        return None
    if seen is None:
        return Note(
            title="Overlap with the training data was not checked",
            text="If the model was trained on some of these images, the numbers are optimistic.",
            is_warning=False,
        )
    return Note(
        title=f"{seen:,} of {plural(report.num_images, 'image')} used in training",
        text="The model was trained on these images, so the numbers are optimistic for new images. "
        "Use images that it has not seen for an unbiased estimate.",
    )


def _seen_in_selection(report: AnyReport) -> Note | None:
    seen = report.data.num_seen_in_selection
    if not seen:
        return None
    return Note(
        title=f"{seen:,} of {plural(report.num_images, 'image')} used in model selection and calibration",
        text="These validation images selected or calibrated the model, so the numbers are optimistically biased; "
        "use an untouched test split for an unbiased estimate.",
    )


def _left_out_as_seen(report: AnyReport) -> Note | None:
    left_out = report.data.num_left_out_as_seen
    if not left_out:
        return None
    return Note(
        title=f"{plural(left_out, 'image')} not measured, because they were used to make the model",
        text="They were used in training, model selection or calibration. --include-seen measures them too.",
        is_warning=False,
    )


def _test_openings(report: AnyReport) -> Note | None:
    openings = report.data.test_openings
    if openings is None or openings <= 1:
        return None
    return Note(
        title=f"The test split has been used {openings:,} times",
        text="Choices made after looking at it bias these numbers upwards.",
    )


def _excluded(report: AnyReport) -> Note | None:
    excluded = report.data.excluded
    if not excluded:
        return None
    return Note(
        title=f"{len(excluded):,} of {plural(report.num_found, 'file')} excluded",
        text=f"n is {report.num_images:,} instead of {report.num_found:,}.",
        items=excluded,
    )


def _absent_labels(report: MultilabelReport) -> Note | None:
    absent = report.absent_labels
    if not absent:
        return None
    return Note(
        title=f"{len(absent):,} of {plural(report.num_classes, 'label')} without an image here",
        text=f"{listing(absent)}: recall, F1 and average precision are undefined, and the macro means cover "
        f"the other {report.num_classes - len(absent):,}.",
    )


def _labels_on_every_image(report: MultilabelReport) -> Note | None:
    always = tuple(row.name for row in report.labels if row.support == report.num_images)
    if not always:
        return None
    return Note(
        title=f"{len(always):,} of {plural(report.num_classes, 'label')} on every image here",
        text=f"{listing(always)}: without negative images, AUROC and average precision are undefined.",
    )


def _weak_thresholds(report: MultilabelReport) -> Note | None:
    if not report.weak_thresholds:
        return None
    return Note(
        title=f"{plural(len(report.weak_thresholds), 'threshold')} chosen on few images",
        text=f"{listing(report.weak_thresholds)}: the calibration data have fewer than {FEW_IMAGES} images with the label. "
        "Where they have none, the threshold is 0.5.",
        is_warning=False,
    )


def _absent_classes(report: Report) -> Note | None:
    absent = report.absent_classes
    if not absent:
        return None
    return Note(
        title=f"{len(absent):,} of {plural(report.num_classes, 'class', 'classes')} without an image here",
        text=f"{listing(absent)}: precision, recall and F1 are undefined, and the means cover "
        f"the other {report.num_classes - len(absent):,}.",
    )


def _never_predicted(report: Report) -> Note | None:
    never = report.never_predicted_classes
    if not never:
        return None
    return Note(
        title=f"{plural(len(never), 'class', 'classes')} never predicted",
        text=f"{listing(never)}: recall and F1 are 0. Precision is undefined and counts as 0 in the means.",
    )


def _small_sample(report: AnyReport) -> Note | None:
    name, metric = _HEADLINES[type(report)]
    interval = report.interval(metric)
    if interval is None or interval[1] - interval[0] <= WIDE_INTERVAL:
        return None
    return Note(
        title=f"Small sample: {plural(report.num_images, 'image')}",
        text=f"The 95% interval of the {name} is {percent_range(interval)}. "
        "To compare two models, use `recog compare`, which tests them on the same images.",
    )


def _small_classes(report: Report) -> Note | None:
    small = [row.name for row in report.classes if 0 < row.support < SMALL_SUPPORT]
    if not small:
        return None
    present = report.num_classes - report.num_absent_classes
    which = f"All {present:,}" if len(small) == present else f"{len(small):,} of {present:,}"
    return Note(
        title=f"{which} classes have fewer than {SMALL_SUPPORT} images",
        text=f"{listing(small)}: their intervals are wide.",
        is_warning=False,
    )


_DATA_NOTES: tuple[Callable[[AnyReport], Note | None], ...] = (
    _seen_in_training,
    _seen_in_selection,
    _left_out_as_seen,
    _test_openings,
    _excluded,
)
_TASK_NOTES: Mapping[type, tuple[Callable[[Any], Note | None], ...]] = MappingProxyType(
    {
        Report: (_absent_classes, _never_predicted, _small_sample, _small_classes),
        MultilabelReport: (_absent_labels, _labels_on_every_image, _weak_thresholds, _small_sample),
    }
)
_HEADLINES = MappingProxyType({Report: ("accuracy", "accuracy"), MultilabelReport: ("mAP", "mean_average_precision")})
