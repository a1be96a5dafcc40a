"""Rows of a report: the measures of each class, the answers of each image, and tables of them as pandas DataFrames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import MissingExtraError
from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray
from recog.evaluation.measures.counts import (
    ClassCounts,
    Interval,
    macro_mean,
    micro_mean,
    weighted_mean,
    wilson_interval,
)
from recog.evaluation.measures.resampling import Bootstrap
from recog.evaluation.measures.task import TASK_MEASURES


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


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResult:
    """One image: its true and its predicted classes, exactly one each unless it may have several labels."""

    path: str  # its name within the data
    true: tuple[str, ...]
    predicted: tuple[str, ...]  # the most probable first
    is_correct: bool
    probs: NDArray[np.float64]  # [K], calibrated
    label_set: tuple[str, ...] | None  # the prediction set, the most probable first; None where the bundle makes none
    is_unknown: bool | None  # None where the bundle does not tell


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Sequence[ImageResult]):
    """The results of N images in the order they were measured in, as arrays and, by index or iteration, image by image."""

    task: Task
    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    is_class: BoolArray  # [N, K], the truth
    preds: BoolArray  # [N, K]
    probs: NDArray[np.float64]  # [N, K], calibrated
    in_set: BoolArray | None = None  # [N, K]
    is_unknown: BoolArray | None = None  # [N]

    def __repr__(self) -> str:
        return f"Predictions(num_images={len(self)}, num_classes={len(self.class_names)})"

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> ImageResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageResult]: ...
    def __getitem__(self, index: int | slice) -> ImageResult | list[ImageResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return ImageResult(
            path=self.paths[index],
            true=self._names(self.is_class[index], index),
            predicted=self._names(self.preds[index], index),
            is_correct=bool(self.is_correct[index]),
            probs=self.probs[index],
            label_set=None if self.in_set is None else self._names(self.in_set[index], index),
            is_unknown=None if self.is_unknown is None else bool(self.is_unknown[index]),
        )

    def __iter__(self) -> Iterator[ImageResult]:
        return (self[i] for i in range(len(self)))

    @property
    def is_correct(self) -> BoolArray:
        """[N]: exactly the true classes are predicted."""
        return np.asarray((self.preds == self.is_class).all(axis=1))

    def to_dataframe(self) -> Any:
        """A pandas DataFrame: path, true, predicted, is_correct, label_set, is_unknown of ImageResult; prob_CLASS of each class.

        `label_set` holds lists; so do `true` and `predicted` where an image may have several labels. MissingExtraError without
        pandas.
        """
        rows = list(self)
        cell = TASK_MEASURES[self.task].cell
        columns: dict[str, Any] = {
            "path": list(self.paths),
            "true": [cell(row.true) for row in rows],
            "predicted": [cell(row.predicted) for row in rows],
            "is_correct": self.is_correct,
        }
        if self.in_set is not None:
            columns["label_set"] = [list(row.label_set or ()) for row in rows]
        if self.is_unknown is not None:
            columns["is_unknown"] = self.is_unknown
        columns |= {f"prob_{name}": self.probs[:, k] for k, name in enumerate(self.class_names)}
        return data_frame(columns)

    def _names(self, chosen: BoolArray, index: int) -> tuple[str, ...]:
        order = np.argsort(-self.probs[index], kind="stable")
        return tuple(self.class_names[k] for k in order if chosen[k])


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Images of each true class (rows) by predicted class (columns). `matrix["cat", "dog"]` are the cats predicted as dogs."""

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]  # [K, K]

    def __getitem__(self, pair: tuple[str, str]) -> int:
        true, predicted = (self.class_names.index(name) for name in pair)
        return int(self.counts[true, predicted])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.counts, dtype=dtype)

    def to_dataframe(self) -> Any:
        """A pandas DataFrame, class names as index (true) and columns (predicted). MissingExtraError without pandas."""
        table = {name: self.counts[:, k] for k, name in enumerate(self.class_names)}
        frame = data_frame(table, index=self.class_names)
        return frame.rename_axis(index="true", columns="predicted")


def data_frame(columns: Mapping[str, Any], *, index: Sequence[str] | None = None) -> Any:
    """A pandas DataFrame. MissingExtraError without pandas, which recog does not need otherwise and imports here only."""
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise MissingExtraError("this needs pandas, which is not installed; run: pip install pandas") from None
    return pandas.DataFrame(dict(columns), index=None if index is None else list(index))


def counted_fields(
    class_names: tuple[str, ...],
    counts: ClassCounts,
    ranks: Sequence[Sequence[float | None]],
    bootstrap: Bootstrap,
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """The fields of a Report that follow from the counts and what is known of each class."""
    return {
        "class_names": class_names,
        "macro": macro_mean(counts),
        "weighted": weighted_mean(counts),
        "micro": micro_mean(counts),
        "classes": class_rows(class_names, counts, *ranks, bootstrap=bootstrap, thresholds=thresholds),
        "bootstrap": bootstrap,
    }
