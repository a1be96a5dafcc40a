"""The prediction for one image: calibrated probabilities, labels, prediction set, and whether it is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import ConfigError
from recog.core.task import Task
from recog.evaluation.trust.unknown import UNKNOWN


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The answer for one image: calibrated probs float64 [K] over `class_names`, and the logits they come from.

    Predictions are equal where all of their fields are.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    probs: NDArray[np.float64]
    logits: NDArray[np.float32]
    preds: NDArray[np.bool_]  # [K]: the most probable class, or by the thresholds of two classes or of several labels
    in_set: NDArray[np.bool_] | None = None  # [K], the classes in the prediction set; None where the bundle makes none
    is_unknown: bool | None = None  # None where it was not asked
    unknown_score: float | None = None  # the higher, the less like the known classes; see calibration.unknown

    def __repr__(self) -> str:
        if self.task == "multilabel":
            return f"Prediction({self.name!r}, labels={self.labels!r})"
        return f"Prediction({self.name!r}, label={self.label!r}, confidence={self.confidence:.4f})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return all(np.array_equal(value, vars(other)[name]) for name, value in vars(self).items())

    def __hash__(self) -> int:
        return hash((self.name, self.class_names, self.probs.tobytes()))

    @property
    def label_set(self) -> tuple[str, ...] | None:
        """The classes that the image may show, the most probable first; never empty. None where the bundle makes no sets."""
        if self.in_set is None:
            return None
        order = np.argsort(-self.probs, kind="stable")
        return tuple(self.class_names[i] for i in order if self.in_set[i])

    @property
    def labels(self) -> tuple[str, ...]:
        """The predicted classes, the most probable first: one, or of a multilabel bundle none to all; ('unknown',)."""
        if self.is_unknown:
            return (UNKNOWN,)
        order = np.argsort(-self.probs, kind="stable")
        return tuple(self.class_names[i] for i in order if self.preds[i])

    @property
    def label(self) -> str:
        """The predicted class, the most probable one unless the bundle has a threshold; or 'unknown'.

        ConfigError for a multilabel bundle, which predicts none to several: see `labels`.
        """
        if self.task == "multilabel":
            raise ConfigError("this bundle predicts none to several labels per image; use `labels`, or `top(1)`.")
        if self.is_unknown:
            return UNKNOWN
        return self.class_names[int(self.preds.argmax())]

    @property
    def confidence(self) -> float:
        """The label's probability, in [0, 1]; of a multilabel bundle the highest one."""
        return self.top(1)[0][1]

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` most probable classes with their probabilities, the best first; ties in class order.

        The label comes first, also where a threshold chose it against a more probable class.
        """
        if k < 1:
            raise ConfigError(f"top takes 1 class or more; it got {k}.")
        is_first = self.preds & (self.task == "multiclass")
        order = np.lexsort((-self.probs, ~is_first))[:k]
        return [(self.class_names[i], float(self.probs[i])) for i in order]

    def to_dict(self, *, top: int | None = None) -> dict[str, Any]:
        """Plain values for JSON, as `recog predict --json --sets` prints them; `top`: that many classes, or None for all.

        With one label: label, confidence (None for 'unknown'), top, and set, is_unknown and unknown_score where they exist. With
        several: labels, and probs by class.
        """
        if self.task == "multilabel":
            probs = dict(zip(self.class_names, self.probs.tolist(), strict=True))
            return {"labels": list(self.labels), "probs": probs}
        classes = self.top(len(self.class_names) if top is None else top)
        table: dict[str, Any] = {
            "label": self.label,
            "confidence": None if self.is_unknown else self.confidence,  # it is the class's, not that of being unknown
            "top": [{"label": label, "prob": prob} for label, prob in classes],
        }
        if self.label_set is not None:
            table["set"] = list(self.label_set)
        if self.is_unknown is not None:
            table |= {"is_unknown": self.is_unknown, "unknown_score": self.unknown_score}
        return table
