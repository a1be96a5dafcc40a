"""The evaluation of one model on one set of images: `evaluate` -> `Report` -> `report.json`. Rates in [0, 1].

Everything that is counted comes from the confusion matrix, when evaluating and when reading `report.json`, so
a file whose numbers disagree with its own counts is refused. What needs the probabilities is read and checked
for its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.config import build_config
from recog.evaluation.measures.arrays import FloatArray, IntArray, check_labels, check_logits
from recog.evaluation.measures.counts import (
    MeanMeasures,
    accuracy_of,
    class_measures,
    confusion_matrix,
    macro_mean,
    matthews,
    micro_mean,
    weighted_mean,
)
from recog.evaluation.measures.intervals import Interval, wilson_interval
from recog.evaluation.results.data_facts import MAX_ERRORS, DataFacts, check_names
from recog.evaluation.results.report_format import FORMAT_VERSION, parse_checked
from recog.evaluation.results.rows import ClassRow, class_rows
from recog.evaluation.results.scores import Scores, measure_scores, parse_scores
from recog.evaluation.results.slices import Slicing, parse_slicing
from recog.evaluation.results.training_facts import TrainingFacts, parse_training
from recog.evaluation.results.trust_evidence import Trust, measure_trust, parse_trust
from recog.evaluation.trust.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Misclassified:
    name: str
    true_class: str
    predicted_class: str
    confidence: float  # probability of the predicted class
    true_class_prob: float  # probability of the true class: near the confidence, it was a close call


@dataclass(frozen=True, kw_only=True)
class Report:
    data: DataFacts
    calibration_method: str
    num_images: int  # measured, so without the excluded
    class_names: tuple[str, ...]
    accuracy: float
    accuracy_ci95: Interval  # Wilson
    balanced_accuracy: float  # mean recall of the classes present
    matthews: float | None
    scores: Scores  # what needs the probabilities
    macro: MeanMeasures
    weighted: MeanMeasures
    micro: MeanMeasures  # the accuracy, three times
    classes: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]  # row = true class, column = predicted class
    errors: tuple[Misclassified, ...]  # the most confident first, at most as many as were asked for
    trust: Trust
    slices: tuple[Slicing, ...] = ()
    training: TrainingFacts | None = None  # None where it is not the report of a training run

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def top_k_accuracy(self) -> float | None:
        return self.scores.top_k.accuracy if self.scores.top_k else None

    def interval(self, metric: str) -> Interval | None:
        """The 95 % interval of a headline metric, by its name."""
        if metric == "top_k_accuracy" and self.scores.top_k:
            return self.scores.top_k.accuracy_ci95
        return self.accuracy_ci95 if metric == "accuracy" else self.scores.interval(metric)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood in nats."""
        return self.scores.nll

    @property
    def brier(self) -> float:
        return self.scores.brier

    @property
    def ece(self) -> float:
        return self.scores.ece

    @property
    def num_found(self) -> int:
        """Images before exclusion: measured and excluded."""
        return self.num_images + len(self.data.excluded)

    @property
    def num_correct(self) -> int:
        return sum(row.num_correct for row in self.classes)

    @property
    def num_errors(self) -> int:
        """All of them; `errors` may hold fewer."""
        return self.num_images - self.num_correct

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes without an image here: left out of every mean."""
        return tuple(row.name for row in self.classes if row.support == 0)

    @property
    def num_absent_classes(self) -> int:
        return len(self.absent_classes)

    @property
    def never_predicted_classes(self) -> tuple[str, ...]:
        """Classes with images here, none of which any image was taken for."""
        return tuple(row.name for row in self.classes if row.support > 0 and row.num_predicted == 0)

    @property
    def largest_class_share(self) -> float:
        """The accuracy of always answering the most frequent class."""
        return max(row.support for row in self.classes) / self.num_images

    def to_dict(self) -> dict[str, Any]:
        """`report.json`: plain JSON types, null where undefined."""
        return {
            "format_version": FORMAT_VERSION,
            "evidence": "evaluation",
            "task": "multiclass",
            "data": {
                "name": self.data.name,
                "split": self.data.split,
                "num_found": self.num_found,
                "num_excluded": len(self.data.excluded),
                "excluded": [{"name": name, "reason": reason} for name, reason in self.data.excluded],
                "num_seen_in_training": self.data.num_seen_in_training,
                "num_seen_in_selection": self.data.num_seen_in_selection,
                "num_left_out_as_seen": self.data.num_left_out_as_seen,
                "test_openings": self.data.test_openings,
            },
            "calibration_method": self.calibration_method,
            "trust": self.trust.to_dict(),
            "training": self.training.to_dict() if self.training else None,
            "num_images": self.num_images,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
            "balanced_accuracy": self.balanced_accuracy,
            "matthews": self.matthews,
            **self.scores.headline_dict(),
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "micro": asdict(self.micro),
            "num_absent_classes": self.num_absent_classes,
            "absent_classes": list(self.absent_classes),
            "never_predicted_classes": list(self.never_predicted_classes),
            "classes": [_listed(asdict(row)) for row in self.classes],
            "confusion": [list(row) for row in self.confusion],
            **self.scores.curves_dict(),
            "slices": [slicing.to_dict() for slicing in self.slices],
            "num_errors": self.num_errors,
            "errors": [asdict(error) for error in self.errors],
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Report:
        """From `report.json`; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
        return parse_checked(table, _parse)


def evaluate(
    logits: FloatArray,
    labels: IntArray,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    data: DataFacts,
    calibration: Calibration | None = None,
    max_errors: int = MAX_ERRORS,
) -> Report:
    """Measure `logits` float [N, K], as the network gives them, against `labels` int64 [N] in [0, K).

    `names` are those of the N images, `class_names` of the K classes. Without `calibration`, the softmax.
    """
    check_logits(logits)
    num_images, num_classes = logits.shape
    check_labels(labels, num_images, num_classes)
    check_names(names, num_images, "names", "images")
    check_names(class_names, num_classes, "class_names", "classes")
    calibration = calibration or Calibration()
    probs = calibration.apply(logits)
    return _build(
        confusion_matrix(probs, labels),
        class_names=tuple(class_names),
        scores=measure_scores(calibration.calibrated_logits(logits), probs, labels),
        errors=_errors(probs, labels, class_names=class_names, names=names)[:max_errors],
        data=data,
        calibration_method=calibration.method,
        trust=measure_trust(calibration, logits, labels),
    )


def no_evidence(reason: str) -> dict[str, Any]:
    """`report.json` of a model that nobody has evaluated; it says so, and why."""
    return {"format_version": FORMAT_VERSION, "evidence": "none", "reason": reason}


def _errors(
    probs: NDArray[np.float64], labels: IntArray, *, class_names: Sequence[str], names: Sequence[str]
) -> tuple[Misclassified, ...]:
    """The misclassified images, the most confident first, equals in the order of the images."""
    preds = probs.argmax(axis=1)
    wrong = np.flatnonzero(preds != labels)
    order = np.argsort(-probs[wrong, preds[wrong]], kind="stable")
    return tuple(
        Misclassified(
            name=names[i],
            true_class=class_names[labels[i]],
            predicted_class=class_names[preds[i]],
            confidence=float(probs[i, preds[i]]),
            true_class_prob=float(probs[i, labels[i]]),
        )
        for i in wrong[order]
    )


def _build(
    confusion: NDArray[np.int64],
    *,
    class_names: tuple[str, ...],
    scores: Scores,
    errors: tuple[Misclassified, ...],
    data: DataFacts,
    calibration_method: str,
    trust: Trust,
) -> Report:
    measures = class_measures(confusion)
    num_images = int(confusion.sum())
    macro = macro_mean(measures)
    correlation = matthews(confusion)
    return Report(
        data=data,
        calibration_method=calibration_method,
        num_images=num_images,
        class_names=class_names,
        accuracy=accuracy_of(confusion),
        accuracy_ci95=wilson_interval(int(measures.num_correct.sum()), num_images),
        balanced_accuracy=macro.recall,
        matthews=None if isnan(correlation) else correlation,
        scores=scores,
        macro=macro,
        weighted=weighted_mean(measures),
        micro=micro_mean(measures),
        classes=class_rows(class_names, measures, scores),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        errors=errors,
        trust=trust,
    )


def _parse(table: Mapping[str, Any]) -> Report:
    facts = {field.name: table["data"][field.name] for field in fields(DataFacts)}
    facts["excluded"] = [(item["name"], item["reason"]) for item in facts["excluded"]]
    class_names = tuple(str(name) for name in table["class_names"])
    confusion = np.array(table["confusion"])
    shape = (len(class_names), len(class_names))
    if confusion.shape != shape or not np.issubdtype(confusion.dtype, np.integer):
        raise ValueError(f"'confusion' has shape {confusion.shape} of {confusion.dtype}; expected {shape} counts.")
    if confusion.min() < 0 or confusion.sum() == 0:
        raise ValueError("it has a negative count, or no image at all.")
    num_images, num_correct = int(confusion.sum()), int(np.trace(confusion))
    report = _build(
        confusion.astype(np.int64),
        class_names=class_names,
        scores=parse_scores(table, support=confusion.sum(axis=1).tolist(), num_correct=num_correct),
        errors=tuple(build_config(Misclassified, error, "errors.") for error in table["errors"]),
        data=build_config(DataFacts, facts, "data."),
        calibration_method=str(table["calibration_method"]),
        trust=parse_trust(table["trust"]),
    )
    return replace(
        report,
        slices=tuple(parse_slicing(row, num_images, num_correct) for row in table["slices"]),
        training=parse_training(table["training"]),
    )


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}
