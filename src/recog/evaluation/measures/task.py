"""What depends on the task: one frozen object for one label an image (softmax), one for several (a sigmoid per label).

Callers take `TASK_MEASURES[task]`, or `task_of(targets)` where only the targets are at hand, and never ask which it is.
`targets` are labels int [N] of multiclass data, zeros and ones [N, K] of multilabel data; `is_class` is bool [N, K] for both:
which classes an image shows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray, FloatArray, TargetArray, check_labels
from recog.evaluation.measures.multilabel import (
    bce_terms,
    check_targets,
    decide,
    label_ece,
    mean_average_precision,
    sigmoid,
)
from recog.evaluation.measures.probability import ece_equal_width, exact_mean, nll_terms, softmax

DEFAULT_THRESHOLD = 0.5  # probability from which a label is predicted where no threshold was fitted


@dataclass(frozen=True)
class TaskMeasures(ABC):
    task: ClassVar[Task]
    scaling_methods: ClassVar[tuple[str, ...]]  # what calibration may fit
    stop_measures: ClassVar[tuple[str, ...]]  # that may end training early
    thing: ClassVar[str]  # what a class is called in messages: 'class' or 'label'
    things: ClassVar[str]
    score_name: ClassVar[str]  # of `selection_score`, the headline: 'accuracy' or 'mAP'
    classes_key: ClassVar[str]  # under which files have the value of `cell`
    cell_kind: ClassVar[Literal["text", "texts"]]  # of `cell`
    min_labels: ClassVar[int]  # of an image

    @abstractmethod
    def cell(self, names: Sequence[str]) -> str | list[str]:
        """The names of an image's classes as one value: the name; multilabel: a list."""

    @abstractmethod
    def targets(self, labels: Sequence[Sequence[int]], num_classes: int) -> NDArray[Any]:
        """From each image's classes: int64 [N], or float32 [N, K] of 0 and 1."""

    @abstractmethod
    def class_count(self, targets: TargetArray) -> int:
        """K; multiclass: one more than the largest label."""

    @abstractmethod
    def is_class(self, targets: TargetArray, num_images: int, num_classes: int) -> BoolArray:
        """`targets` checked, as bool [N, K]. ShapeError or DataError where they are of another task or damaged."""

    @abstractmethod
    def probs(self, logits: FloatArray) -> NDArray[np.float64]:
        """Probabilities float64 [N, K] from (calibrated) `logits` float [N, K]."""

    @abstractmethod
    def centred(self, logits: FloatArray) -> NDArray[np.float64]:
        """`logits` less what their probabilities do not depend on, so that products with them stay small."""

    @abstractmethod
    def preds(self, probs: FloatArray, thresholds: Sequence[float] = ()) -> BoolArray:
        """The predicted classes, bool [N, K]. Multilabel: from `thresholds` [K] on, without them from 0.5 on.

        Multiclass: the class whose probability exceeds its own of `thresholds` [K] most, without them the most probable.
        """

    @abstractmethod
    def nll_terms(self, logits: FloatArray, targets: TargetArray) -> NDArray[np.float64]:
        """Per image, float64 [N] in nats; multilabel: the mean over its labels."""

    @abstractmethod
    def ece(self, probs: FloatArray, targets: TargetArray) -> float:
        """Expected calibration error over equal-width bins of the confidence; multilabel: of every probability."""

    @abstractmethod
    def truth_probs(self, probs: FloatArray, is_class: BoolArray) -> NDArray[np.float64]:
        """Per image, float64 [N]: the probability of its class; multilabel: of the truth of its worst label."""

    @abstractmethod
    def strata(self, targets: TargetArray) -> NDArray[np.int64]:
        """Per image, int64 [N]: the stratum that cross-validation deals out evenly."""

    @abstractmethod
    def smallest_margin(self, probs: FloatArray, thresholds: Sequence[float] = ()) -> NDArray[np.float64]:
        """Per image and class, float64 [N, K]: how far probabilities may move before this prediction may change."""

    @abstractmethod
    def selection_score(self, logits: FloatArray, targets: TargetArray) -> float:
        """What chooses among epochs and heads, in [0, 1], 1 is best: the accuracy; multilabel: the mAP, 0 where undefined."""

    def mean_average_precision(self, logits: FloatArray, targets: TargetArray) -> float | None:
        """Multilabel only, and None where it is undefined."""
        return None

    def label_cardinality(self, num_labels: int, num_images: int) -> float | None:
        """Mean number of labels of an image, multilabel only. Tsoumakas and Katakis (2007), IJDWM 3(3)."""
        return None

    def confusion(self, logits: FloatArray, targets: TargetArray) -> NDArray[np.int64] | None:
        """Counts [K, K], row = true class; multiclass only."""
        return None

    @abstractmethod
    def accuracy(self, logits: FloatArray, targets: TargetArray) -> float:
        """Share of the images whose predicted classes are all right; multilabel: at a probability of 0.5."""

    def nll(self, logits: FloatArray, targets: TargetArray) -> float:
        """Mean of `nll_terms`."""
        return exact_mean(self.nll_terms(logits, targets))


def is_correct(preds: BoolArray, is_class: BoolArray) -> BoolArray:
    """Per image, bool [N]: whether exactly its classes are predicted, from `preds` and `is_class` bool [N, K]."""
    return np.asarray((preds == is_class).all(axis=1))


def _excess(probs: FloatArray, thresholds: Sequence[float]) -> FloatArray:
    return np.asarray(probs - np.asarray(thresholds or 0.0))


class _Multiclass(TaskMeasures):
    task = "multiclass"
    scaling_methods = ("none", "temperature", "vector")
    stop_measures = ("val_nll", "val_accuracy", "train_loss")
    thing, things = "class", "classes"
    score_name = "accuracy"
    classes_key, cell_kind = "class", "text"
    min_labels = 1

    def cell(self, names: Sequence[str]) -> str | list[str]:
        return names[0]

    def targets(self, labels: Sequence[Sequence[int]], num_classes: int) -> NDArray[Any]:
        return np.array([label for (label,) in labels], dtype=np.int64)

    def class_count(self, targets: TargetArray) -> int:
        return int(targets.max()) + 1

    def is_class(self, targets: TargetArray, num_images: int, num_classes: int) -> BoolArray:
        check_labels(targets, num_images, num_classes)
        return np.asarray(targets[:, None] == np.arange(num_classes))

    def probs(self, logits: FloatArray) -> NDArray[np.float64]:
        return softmax(logits)

    def centred(self, logits: FloatArray) -> NDArray[np.float64]:
        wide = logits.astype(np.float64)
        return np.asarray(wide - wide.max(axis=1, keepdims=True))

    def preds(self, probs: FloatArray, thresholds: Sequence[float] = ()) -> BoolArray:
        return np.asarray(_excess(probs, thresholds).argmax(axis=1)[:, None] == np.arange(probs.shape[1]))

    def nll_terms(self, logits: FloatArray, targets: TargetArray) -> NDArray[np.float64]:
        return nll_terms(logits, targets)

    def ece(self, probs: FloatArray, targets: TargetArray) -> float:
        return ece_equal_width(probs, targets)

    def truth_probs(self, probs: FloatArray, is_class: BoolArray) -> NDArray[np.float64]:
        return np.asarray(probs[is_class])

    def strata(self, targets: TargetArray) -> NDArray[np.int64]:
        return targets.astype(np.int64)

    def smallest_margin(self, probs: FloatArray, thresholds: Sequence[float] = ()) -> NDArray[np.float64]:
        best_two = np.sort(_excess(probs, thresholds), axis=1)[:, -2:]
        half = (best_two[:, 1] - best_two[:, 0]) / 2  # one may fall while the other rises
        return np.broadcast_to(half[:, None], probs.shape)

    def accuracy(self, logits: FloatArray, targets: TargetArray) -> float:
        return float((logits.argmax(axis=1) == targets).mean())

    def selection_score(self, logits: FloatArray, targets: TargetArray) -> float:
        return self.accuracy(logits, targets)

    def confusion(self, logits: FloatArray, targets: TargetArray) -> NDArray[np.int64] | None:
        cells = targets.astype(np.int64) * logits.shape[1] + logits.argmax(axis=1)
        counts = np.bincount(cells, minlength=logits.shape[1] ** 2)
        return counts.reshape(-1, logits.shape[1]).astype(np.int64)


class _Multilabel(TaskMeasures):
    task = "multilabel"
    scaling_methods = ("none", "temperature")
    stop_measures = ("val_nll", "val_accuracy", "val_map", "train_loss")
    thing, things = "label", "labels"
    score_name = "mAP"
    classes_key, cell_kind = "classes", "texts"
    min_labels = 0

    def cell(self, names: Sequence[str]) -> str | list[str]:
        return list(names)

    def label_cardinality(self, num_labels: int, num_images: int) -> float | None:
        return num_labels / max(1, num_images)

    def targets(self, labels: Sequence[Sequence[int]], num_classes: int) -> NDArray[Any]:
        targets = np.zeros((len(labels), num_classes), dtype=np.float32)
        for row, classes in zip(targets, labels, strict=True):
            row[list(classes)] = 1
        return targets

    def class_count(self, targets: TargetArray) -> int:
        return int(targets.shape[1])

    def is_class(self, targets: TargetArray, num_images: int, num_classes: int) -> BoolArray:
        return check_targets(targets, num_images, num_classes)

    def probs(self, logits: FloatArray) -> NDArray[np.float64]:
        return sigmoid(logits)

    def centred(self, logits: FloatArray) -> NDArray[np.float64]:
        return logits.astype(np.float64)

    def preds(self, probs: FloatArray, thresholds: Sequence[float] = ()) -> BoolArray:
        return decide(probs, np.asarray(thresholds or DEFAULT_THRESHOLD))

    def nll_terms(self, logits: FloatArray, targets: TargetArray) -> NDArray[np.float64]:
        terms: NDArray[np.float64] = bce_terms(logits, targets == 1).mean(axis=1)
        return terms

    def ece(self, probs: FloatArray, targets: TargetArray) -> float:
        return label_ece(probs, targets == 1)

    def truth_probs(self, probs: FloatArray, is_class: BoolArray) -> NDArray[np.float64]:
        return np.asarray(np.where(is_class, probs, 1 - probs).min(axis=1))

    def strata(self, targets: TargetArray) -> NDArray[np.int64]:
        return np.zeros(len(targets), dtype=np.int64)

    def smallest_margin(self, probs: FloatArray, thresholds: Sequence[float] = ()) -> NDArray[np.float64]:
        margin: NDArray[np.float64] = np.abs(probs - np.asarray(thresholds or DEFAULT_THRESHOLD))
        return margin

    def accuracy(self, logits: FloatArray, targets: TargetArray) -> float:
        return float(is_correct(logits >= 0, targets == 1).mean())

    def selection_score(self, logits: FloatArray, targets: TargetArray) -> float:
        return self.mean_average_precision(logits, targets) or 0.0

    def mean_average_precision(self, logits: FloatArray, targets: TargetArray) -> float | None:
        value = mean_average_precision(logits, targets == 1)
        return None if np.isnan(value) else value


TASK_MEASURES: Mapping[Task, TaskMeasures] = MappingProxyType(
    {"multiclass": _Multiclass(), "multilabel": _Multilabel()}
)


_BY_AXES: Mapping[int, Task] = MappingProxyType({1: "multiclass", 2: "multilabel"})


def task_of(targets: TargetArray) -> TaskMeasures:
    """Of labels int [N], or of zeros and ones [N, K]."""
    return TASK_MEASURES[_BY_AXES[targets.ndim]]
