"""The rows of a report: one per class, and one per misclassified image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.arrays import BoolArray
from recog.evaluation.measures.counts import ClassCounts, Interval, wilson_interval
from recog.evaluation.measures.resampling import Bootstrap


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class or label. Rates are None where undefined (see `counts`); intervals are Wilson's, 95 %."""

    name: str
    support: int  # images of this class
    num_predicted: int  # images predicted to be of it
    num_correct: int  # both
    threshold: float | None = None  # of a label
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None
    f1: float | None  # not a share of any n images, so no Wilson interval
    f1_ci95: Interval | None  # this one and those below by bootstrap
    specificity: float | None  # share of the images of other classes that are not predicted to be of this class
    specificity_ci95: Interval | None
    auroc: float | None  # this class against the rest
    auroc_ci95: Interval | None
    average_precision: float | None
    average_precision_ci95: Interval | None


@dataclass(frozen=True, kw_only=True)
class Misclassified:
    name: str
    true_class: str
    predicted_class: str
    confidence: float  # probability of the predicted class
    true_class_prob: float  # probability of the true class: near the confidence, it was a close call


@dataclass(frozen=True, kw_only=True)
class WrongLabels:
    """An image on which at least one label is wrong, each as (label, its probability)."""

    name: str
    correct: tuple[tuple[str, float], ...]
    missed: tuple[tuple[str, float], ...]  # true, not predicted
    invented: tuple[tuple[str, float], ...]  # predicted, not true
    worst_surprise: float  # how improbable the model held the truth of its worst label, in [0, 1]


def class_rows(
    class_names: Sequence[str],
    counts: ClassCounts,
    auroc: Sequence[float | None],
    average_precision: Sequence[float | None],
    *,
    bootstrap: Bootstrap,
    thresholds: Sequence[float] = (),
) -> tuple[ClassRow, ...]:
    """The rates follow from the counts; the rest is passed in, [K] each."""
    nothing = (None,) * len(class_names)
    intervals = {name: bounds or nothing for name, bounds in bootstrap.class_intervals.items()}
    label_thresholds = tuple(thresholds) or nothing
    f1 = counts.f1.tolist()
    rows = []
    for k, name in enumerate(class_names):
        support, num_predicted, num_correct = (
            int(numbers[k]) for numbers in (counts.support, counts.num_predicted, counts.num_correct)
        )
        num_others = counts.num_images - support
        precision, precision_ci95 = _rate(num_correct, num_predicted if support else 0)
        recall, recall_ci95 = _rate(num_correct, support)
        specificity, specificity_ci95 = _rate(num_others - (num_predicted - num_correct), num_others)
        rows.append(
            ClassRow(
                name=name,
                support=support,
                num_predicted=num_predicted,
                num_correct=num_correct,
                threshold=label_thresholds[k],
                precision=precision,
                precision_ci95=precision_ci95,
                recall=recall,
                recall_ci95=recall_ci95,
                f1=none_if_nan(f1[k]),
                f1_ci95=intervals["f1"][k],
                specificity=specificity,
                specificity_ci95=specificity_ci95,
                auroc=auroc[k],
                auroc_ci95=intervals["auroc"][k],
                average_precision=average_precision[k],
                average_precision_ci95=intervals["average_precision"][k],
            )
        )
    return tuple(rows)


def misclassified(
    probs: NDArray[np.float64], preds: BoolArray, is_class: BoolArray, class_names: Sequence[str], names: Sequence[str]
) -> tuple[Misclassified, ...]:
    """The misclassified images, the most confident first, equals in the order of the images."""
    predicted, labels = preds.argmax(axis=1), is_class.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = np.argsort(-probs[wrong, predicted[wrong]], kind="stable")
    return tuple(
        Misclassified(
            name=names[i],
            true_class=class_names[labels[i]],
            predicted_class=class_names[predicted[i]],
            confidence=float(probs[i, predicted[i]]),
            true_class_prob=float(probs[i, labels[i]]),
        )
        for i in wrong[order]
    )


def wrong_labels(
    probs: NDArray[np.float64], preds: BoolArray, is_class: BoolArray, class_names: Sequence[str], names: Sequence[str]
) -> tuple[WrongLabels, ...]:
    """The images with a wrong label, the worst surprise first, equals in the order of the images."""
    surprise = np.where(preds != is_class, np.abs(probs - is_class), -1.0).max(axis=1)
    order = np.argsort(-surprise, kind="stable")

    def pairs(i: int, which: BoolArray) -> tuple[tuple[str, float], ...]:
        found = sorted(np.flatnonzero(which[i]), key=lambda k: -probs[i, k])
        return tuple((class_names[int(k)], float(probs[i, k])) for k in found)

    return tuple(
        WrongLabels(
            name=names[i],
            correct=pairs(i, preds & is_class),
            missed=pairs(i, is_class & ~preds),
            invented=pairs(i, preds & ~is_class),
            worst_surprise=float(surprise[i]),
        )
        for i in order.tolist()
        if surprise[i] >= 0
    )


def _rate(num_successes: int, num_trials: int) -> tuple[float | None, Interval | None]:
    """The share with Wilson's interval; None where it is 0 of 0."""
    if num_trials == 0:
        return None, None
    return num_successes / num_trials, wilson_interval(num_successes, num_trials)


def mean_of(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def none_if_nan(value: float) -> float | None:
    return None if isnan(value) else float(value)
