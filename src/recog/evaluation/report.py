"""The evaluation of one model on one set of images: `evaluate` -> `Report` -> `report.json`. Rates in [0, 1].

Everything that is counted comes from the confusion matrix, when evaluating and when reading `report.json`, so
a file whose numbers disagree with its own counts is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isclose, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.config import build_config
from recog.core.errors import BundleError, ConfigError, DataError
from recog.evaluation.calibration import Calibration
from recog.evaluation.intervals import wilson_interval
from recog.evaluation.measures import (
    FloatArray,
    IntArray,
    MeanMeasures,
    accuracy_of,
    check_labels,
    check_logits,
    class_measures,
    confusion_matrix,
    macro_mean,
    nll,
    weighted_mean,
)

FORMAT_VERSION = 1
MAX_ERRORS = 100

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Which images were measured, and what a reader must know of them to trust the numbers."""

    name: str
    split: str | None = None  # 'train', 'val', 'test'; None where the images belong to none
    excluded: tuple[tuple[str, str], ...] = ()  # (name, reason) of what was found and could not be used
    num_seen_in_training: int | None = None  # images whose bytes were also trained on; None: not checked
    test_openings: int | None = None  # how often the test split was opened, this time included; None: not known


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
    nll: float  # nats
    macro: MeanMeasures
    weighted: MeanMeasures
    classes: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]  # row = true class, column = predicted class
    errors: tuple[Misclassified, ...]  # the most confident first, at most as many as were asked for

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

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
                "test_openings": self.data.test_openings,
            },
            "calibration_method": self.calibration_method,
            "num_images": self.num_images,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
            "balanced_accuracy": self.balanced_accuracy,
            "nll": self.nll,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "num_absent_classes": self.num_absent_classes,
            "absent_classes": list(self.absent_classes),
            "never_predicted_classes": list(self.never_predicted_classes),
            "classes": [_listed(asdict(row)) for row in self.classes],
            "confusion": [list(row) for row in self.confusion],
            "num_errors": self.num_errors,
            "errors": [asdict(error) for error in self.errors],
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Report:
        """From `report.json`; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
        _check_header(table)
        try:
            report = _parse(table)
        except KeyError as error:
            raise BundleError(f"report.json is damaged: {error} is missing.") from None
        except (TypeError, ValueError, OverflowError, ConfigError) as error:
            raise BundleError(f"report.json is damaged: {error}") from None
        for key, value in report.to_dict().items():
            if not _agree(table.get(key), value):
                raise BundleError(
                    f"report.json disagrees with itself: its '{key}' does not follow from its counts. "
                    "It was changed after it was written; evaluate again."
                )
        return report


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
    _check_names(names, num_images, "names", "images")
    _check_names(class_names, num_classes, "class_names", "classes")
    calibration = calibration or Calibration()
    probs = calibration.apply(logits)
    return _build(
        confusion_matrix(probs, labels),
        class_names=tuple(class_names),
        nll_value=nll(calibration.calibrated_logits(logits), labels),
        errors=_errors(probs, labels, class_names=class_names, names=names)[:max_errors],
        data=data,
        calibration_method=calibration.method,
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
    nll_value: float,
    errors: tuple[Misclassified, ...],
    data: DataFacts,
    calibration_method: str,
) -> Report:
    measures = class_measures(confusion)
    num_images = int(confusion.sum())
    macro = macro_mean(measures)
    return Report(
        data=data,
        calibration_method=calibration_method,
        num_images=num_images,
        class_names=class_names,
        accuracy=accuracy_of(confusion),
        accuracy_ci95=wilson_interval(int(measures.num_correct.sum()), num_images),
        balanced_accuracy=macro.recall,
        nll=nll_value,
        macro=macro,
        weighted=weighted_mean(measures),
        classes=tuple(
            _class_row(name, *counts, f1=None if np.isnan(f1) else float(f1))
            for name, *counts, f1 in zip(
                class_names,
                measures.support.tolist(),
                measures.num_predicted.tolist(),
                measures.num_correct.tolist(),
                measures.f1,
                strict=True,
            )
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        errors=errors,
    )


def _class_row(name: str, support: int, num_predicted: int, num_correct: int, *, f1: float | None) -> ClassRow:
    recall_of, precision_of = support, num_predicted if support else 0
    return ClassRow(
        name=name,
        support=support,
        num_predicted=num_predicted,
        num_correct=num_correct,
        precision=num_correct / precision_of if precision_of else None,
        precision_ci95=wilson_interval(num_correct, precision_of) if precision_of else None,
        recall=num_correct / recall_of if recall_of else None,
        recall_ci95=wilson_interval(num_correct, recall_of) if recall_of else None,
        f1=f1,
    )


def _check_names(names: Sequence[str], expected: int, what: str, of: str) -> None:
    if len(names) != expected:
        raise DataError(f"{what} has {len(names)} entries for {expected} {of}; expected one each.")
    if len(set(names)) != expected:
        twice, _ = Counter(names).most_common(1)[0]
        raise DataError(f"{what} holds {twice!r} more than once; the {of} could not be told apart in the report.")


def _check_header(table: Mapping[str, Any]) -> None:
    version = table.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise BundleError("report.json has no format_version; it is damaged or was not written by recog.")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"report.json has format_version {version}; this release reads up to {FORMAT_VERSION}. "
            "A newer release of recog wrote it: install that version or newer."
        )
    if table.get("evidence") != "evaluation":
        raise BundleError(f"report.json holds no evaluation: {table.get('reason', 'no reason is given')}")


def _parse(table: Mapping[str, Any]) -> Report:
    facts = {field.name: table["data"][field.name] for field in fields(DataFacts)}
    facts["excluded"] = [(item["name"], item["reason"]) for item in facts["excluded"]]
    class_names = tuple(str(name) for name in table["class_names"])
    confusion = np.array(table["confusion"])
    nll_value = float(table["nll"])
    shape = (len(class_names), len(class_names))
    if confusion.shape != shape or not np.issubdtype(confusion.dtype, np.integer):
        raise ValueError(f"'confusion' has shape {confusion.shape} of {confusion.dtype}; expected {shape} counts.")
    if confusion.min() < 0 or confusion.sum() == 0 or not isfinite(nll_value):
        raise ValueError("it has a negative count, no image at all, or an infinite NLL.")
    return _build(
        confusion.astype(np.int64),
        class_names=class_names,
        nll_value=nll_value,
        errors=tuple(build_config(Misclassified, error, "errors.") for error in table["errors"]),
        data=build_config(DataFacts, facts, "data."),
        calibration_method=str(table["calibration_method"]),
    )


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}


def _agree(read: Any, derived: Any) -> bool:
    """Equal, floating numbers to 1e-9, since another machine's NumPy may add up in another order."""
    if isinstance(derived, Mapping):
        return isinstance(read, Mapping) and all(_agree(read.get(key), derived[key]) for key in derived)
    if isinstance(derived, list):
        return isinstance(read, list) and len(read) == len(derived) and all(map(_agree, read, derived))
    if isinstance(derived, float) and isinstance(read, (int, float)):
        return isclose(read, derived, rel_tol=1e-9, abs_tol=1e-9)
    return bool(read == derived)
