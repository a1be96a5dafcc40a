"""The rows of a report: one per class, or one per label of multi-label data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from recog.evaluation.measures.counts import ClassMeasures, LabelCounts
from recog.evaluation.measures.intervals import Interval, wilson_interval
from recog.evaluation.results.scores import ClassScores, Scores


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class. Rates are None where undefined (see `measures`); intervals are Wilson's, 95 %."""

    name: str
    support: int  # images of this class
    num_predicted: int  # images called this class
    num_correct: int
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None
    f1: float | None  # not a share of any n images, so no Wilson interval
    f1_ci95: Interval | None  # this one and those below by bootstrap
    specificity: float | None  # share of the images of other classes that are not called this class
    specificity_ci95: Interval | None
    auroc: float | None  # this class against the rest
    auroc_ci95: Interval | None
    average_precision: float | None
    average_precision_ci95: Interval | None


def class_rows(class_names: Sequence[str], measures: ClassMeasures, scores: Scores) -> tuple[ClassRow, ...]:
    num_images = int(measures.support.sum())
    return tuple(
        _class_row(
            name,
            num_images,
            *(int(counts[k]) for counts in (measures.support, measures.num_predicted, measures.num_correct)),
            scores=scores.of_class(k),
        )
        for k, name in enumerate(class_names)
    )


def _class_row(
    name: str, num_images: int, support: int, num_predicted: int, num_correct: int, *, scores: ClassScores
) -> ClassRow:
    num_others = num_images - support
    precision, precision_ci95 = _rate(num_correct, num_predicted if support else 0)
    recall, recall_ci95 = _rate(num_correct, support)
    specificity, specificity_ci95 = _rate(num_others - (num_predicted - num_correct), num_others)
    return ClassRow(
        name=name,
        support=support,
        num_predicted=num_predicted,
        num_correct=num_correct,
        precision=precision,
        precision_ci95=precision_ci95,
        recall=recall,
        recall_ci95=recall_ci95,
        f1=2 * num_correct / (support + num_predicted) if support else None,
        f1_ci95=scores.f1_ci95,
        specificity=specificity,
        specificity_ci95=specificity_ci95,
        auroc=scores.auroc,
        auroc_ci95=scores.auroc_ci95,
        average_precision=scores.average_precision,
        average_precision_ci95=scores.average_precision_ci95,
    )


def _rate(num_successes: int, num_trials: int) -> tuple[float | None, Interval | None]:
    """The share with Wilson's interval; None where it is 0 of 0."""
    if num_trials == 0:
        return None, None
    return num_successes / num_trials, wilson_interval(num_successes, num_trials)


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One label. Rates are None where undefined (see `multilabel`); intervals are Wilson's, 95 %."""

    name: str
    support: int  # images that show it
    num_predicted: int  # images that it was said of
    num_correct: int  # both
    threshold: float
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None
    f1: float | None
    f1_ci95: Interval | None  # this one and those below by bootstrap
    specificity: float | None
    specificity_ci95: Interval | None
    auroc: float | None
    auroc_ci95: Interval | None
    average_precision: float | None
    average_precision_ci95: Interval | None


def label_rows(
    class_names: Sequence[str],
    counts: LabelCounts,
    thresholds: Sequence[float],
    scores: Sequence[ClassScores],
) -> tuple[LabelRow, ...]:
    """The rates follow from the counts; the rest is given."""
    rows = []
    for k, name in enumerate(class_names):
        both, said, shown = int(counts.both[k]), int(counts.said[k]), int(counts.shown[k])
        others = counts.num_images - shown
        rows.append(
            LabelRow(
                name=name,
                support=shown,
                num_predicted=said,
                num_correct=both,
                threshold=thresholds[k],
                precision=none_if_nan(float(counts.precision[k])),
                precision_ci95=wilson_interval(both, said) if said and shown else None,
                recall=none_if_nan(float(counts.recall[k])),
                recall_ci95=wilson_interval(both, shown) if shown else None,
                f1=none_if_nan(float(counts.f1[k])),
                f1_ci95=scores[k].f1_ci95,
                specificity=none_if_nan(float(counts.specificity[k])),
                specificity_ci95=wilson_interval(others - said + both, others) if others else None,
                auroc=scores[k].auroc,
                auroc_ci95=scores[k].auroc_ci95,
                average_precision=scores[k].average_precision,
                average_precision_ci95=scores[k].average_precision_ci95,
            )
        )
    return tuple(rows)


def mean_of(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def none_if_nan(value: float) -> float | None:
    return None if isnan(value) else float(value)
