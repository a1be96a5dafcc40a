"""The prediction for one image: calibrated probabilities, labels, prediction set, whether it is unknown, and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recog.core import notebook
from recog.core.errors import ConfigError
from recog.core.task import Task
from recog.evaluation.trust.unknown import UNKNOWN


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The answer for one image: calibrated probs float64 [K] over `class_names`, and the logits they come from.

    Predictions are equal where all of their fields are.
    """

    task: ClassVar[Task] = "multiclass"

    name: str
    class_names: tuple[str, ...]
    probs: NDArray[np.float64]
    logits: NDArray[np.float32]
    preds: NDArray[np.bool_]  # [K]: the most probable class, or by the thresholds of two classes or of several labels
    in_set: NDArray[np.bool_] | None = None  # [K], the classes in the prediction set; None where the bundle makes none
    is_unknown: bool | None = None  # None where it was not asked
    unknown_score: float | None = None  # the higher, the less like the known classes; see calibration.unknown
    maps: NDArray[np.float32] | None = None  # [M, h, w] of `map_labels`: where the image counts; None where not asked
    seen: NDArray[np.uint8] | None = field(default=None, repr=False)  # [H, W, C], what the network saw, where maps are
    source: Any = field(
        default=None, repr=False, compare=False
    )  # the image, where one was asked for: a notebook shows it

    def __repr__(self) -> str:
        return f"Prediction({self.name!r}, label={self.label!r}, confidence={self.confidence:.4f})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        fields = vars(self).keys() - {"source"}
        return type(self) is type(other) and all(np.array_equal(vars(self)[name], vars(other)[name]) for name in fields)

    def _repr_html_(self) -> str:
        head = ", ".join(self.labels) or "(no label)"
        rows = notebook.bars((name, prob, f"{prob:.1%}") for name, prob in self.top(min(5, len(self.class_names))))
        shown = notebook.picture_of(self.source, self.name)
        return notebook.card(head, self.name, notebook.side_by_side(shown, rows))

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
        if self.is_unknown:
            return UNKNOWN
        return self.class_names[int(self.preds.argmax())]

    @property
    def map_labels(self) -> tuple[str, ...]:
        """The classes that `maps` explain: the predicted ones, or the most probable one where none is."""
        return tuple(self.class_names[i] for i in mapped_classes(self.probs, self.preds))

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
        order = np.lexsort((-self.probs, ~self._comes_first))[:k]
        return [(self.class_names[i], float(self.probs[i])) for i in order]

    @property
    def _comes_first(self) -> NDArray[np.bool_]:
        """[K]: the class that `top` lists before more probable ones."""
        return self.preds

    def confident_labels(self, min_confidence: float, *, otherwise: str) -> tuple[str, ...]:
        """`labels`, or `otherwise` in place of a label less probable than `min_confidence`; multilabel: without such labels."""
        return self.labels if self.is_unknown or self.confidence >= min_confidence else (otherwise,)

    def labels_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        """How `labels` stand in `to_dict`."""
        return {"label": labels[0]}

    def to_dict(self, *, top: int | None = None) -> dict[str, Any]:
        """Plain values for JSON, as `recog predict --json --sets` prints them; `top`: that many classes, or None for all.

        With one label: label, confidence (None for 'unknown'), top, and label_set, is_unknown and unknown_score where they exist.
        With several: labels, and probs by class.
        """
        classes = self.top(len(self.class_names) if top is None else top)
        table: dict[str, Any] = {
            **self.labels_dict(self.labels),
            "confidence": None if self.is_unknown else self.confidence,  # it is the class's, not that of being unknown
            "top": [{"label": label, "prob": prob} for label, prob in classes],
        }
        if self.label_set is not None:
            table["label_set"] = list(self.label_set)
        if self.is_unknown is not None:
            table |= {"is_unknown": self.is_unknown, "unknown_score": self.unknown_score}
        return table | self.maps_dict()

    def maps_dict(self) -> dict[str, Any]:
        """How the maps stand in `to_dict`: rows of numbers by class; nothing where there are none."""
        if self.maps is None:
            return {}
        return {"maps": dict(zip(self.map_labels, self.maps.astype(np.float64).round(5).tolist(), strict=True))}


class MultilabelPrediction(Prediction):
    """The answer of a bundle that predicts none to several labels per image, each with a probability of its own."""

    task = "multilabel"

    def __repr__(self) -> str:
        return f"Prediction({self.name!r}, labels={self.labels!r})"

    @property
    def label(self) -> str:
        raise ConfigError("this bundle predicts none to several labels per image; use `labels`, or `top(1)`.")

    @property
    def _comes_first(self) -> NDArray[np.bool_]:
        return np.zeros_like(self.preds)

    @property
    def probs_by_label(self) -> dict[str, float]:
        return dict(zip(self.class_names, self.probs.tolist(), strict=True))

    def confident_labels(self, min_confidence: float, *, otherwise: str) -> tuple[str, ...]:
        probs = self.probs_by_label
        return tuple(label for label in self.labels if probs[label] >= min_confidence)

    def labels_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        return {"labels": list(labels)}

    def to_dict(self, *, top: int | None = None) -> dict[str, Any]:
        return {**self.labels_dict(self.labels), "probs": self.probs_by_label, **self.maps_dict()}


def mapped_classes(probs: NDArray[np.float64], preds: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The classes of `preds` [K], the most probable first, or the most probable one of `probs` [K] where none is predicted."""
    order = np.argsort(-probs, kind="stable")
    return order[preds[order]] if preds.any() else order[:1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """For a batch of B images: the network's outputs and the calibrated probabilities."""

    logits: NDArray[np.float32]  # [B, K]
    probs: NDArray[np.float64]  # [B, K]
    preds: NDArray[np.bool_]  # [B, K]
    sets: NDArray[np.bool_] | None = None  # [B, K]
    unknown_scores: NDArray[np.float64] | None = None  # [B]
    is_unknown: NDArray[np.bool_] | None = None  # [B]
    maps: tuple[NDArray[np.float32], ...] | None = None  # B times [M, h, w], as Prediction has them

    def prediction(
        self, row: int, image: NDArray[np.uint8], *, task: Task, name: str, class_names: tuple[str, ...]
    ) -> Prediction:
        """The answer for the image in `row`, which is `image` uint8 [H, W, C]."""
        return PREDICTIONS[task](
            name=name,
            class_names=class_names,
            probs=self.probs[row],
            logits=self.logits[row],
            in_set=None if self.sets is None else self.sets[row],
            preds=self.preds[row],
            is_unknown=None if self.is_unknown is None else bool(self.is_unknown[row]),
            unknown_score=None if self.unknown_scores is None else float(self.unknown_scores[row]),
            maps=None if self.maps is None else self.maps[row],
            seen=None if self.maps is None else image,
        )


PREDICTIONS: Mapping[Task, type[Prediction]] = MappingProxyType(
    {"multiclass": Prediction, "multilabel": MultilabelPrediction}
)
