"""`calibration.json`: how a bundle's logits become probabilities. Every way of predicting calls `apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError
from recog.core.task import Task
from recog.evaluation.measures.arrays import FloatArray, IntArray
from recog.evaluation.measures.multilabel import BoolArray
from recog.evaluation.measures.probability import softmax
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.trust.conformal import SET_METHODS, ConformalSets, fit_sets, row_coins
from recog.evaluation.trust.scaling import METHODS, Scaling, fit_scaling, scale_held_out
from recog.evaluation.trust.thresholds import LabelThresholds
from recog.evaluation.trust.unknown import UNKNOWN_METHODS, UnknownRule

_SCALING_KEYS = ("method", "temperature", "factors", "offsets", "fit")
_KEYS = (*_SCALING_KEYS, "sets", "thresholds", "unknown")


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    method: str = "auto"  # 'auto': what cross-validation on the calibration images finds; or one of METHODS
    conformal: str = "lac"  # how prediction sets are made, one of SET_METHODS; or 'none'
    alpha: float = 0.1  # the share of images whose prediction set may lack the true class
    class_conditional: bool = False  # hold alpha within each class that has 200 calibration images
    unknown: str = (
        "auto"  # the score of 'unknown': 'auto' compares all by leaving classes out; one of UNKNOWN_METHODS; 'none'
    )
    false_alarm_rate: float = 0.05  # the share of images of known classes that may be called unknown

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise ConfigError(f"calibration.method is {self.method!r}; it must be one of auto, {', '.join(METHODS)}.")
        if self.conformal not in ("none", *SET_METHODS):
            raise ConfigError(
                f"calibration.conformal is {self.conformal!r}; it must be one of none, {', '.join(SET_METHODS)}."
            )
        if self.unknown not in ("auto", "none", *UNKNOWN_METHODS):
            raise ConfigError(
                f"calibration.unknown is {self.unknown!r}; it must be one of auto, none, {', '.join(UNKNOWN_METHODS)}."
            )
        for name in ("alpha", "false_alarm_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(
                    f"calibration.{name} is {getattr(self, name)}; it must lie between 0 and 1, such as 0.1."
                )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    scaling: Scaling = field(default_factory=Scaling)
    sets: ConformalSets | None = None  # None: the bundle gives no prediction sets
    unknown: UnknownRule | None = None  # None: the bundle calls nothing unknown
    thresholds: LabelThresholds | None = None  # of multi-label answers, whose probabilities are a sigmoid each

    @property
    def task(self) -> Task:
        return "multiclass" if self.thresholds is None else "multilabel"

    @property
    def method(self) -> str:
        """'none' where the probabilities are the softmax as the network gives it."""
        return self.scaling.method

    def calibrated_logits(self, logits: FloatArray) -> FloatArray:
        """Logits float [N, K] whose softmax (multi-label: sigmoid) are the probabilities; what the NLL is taken from."""
        return self.scaling.apply(logits)

    def apply(self, logits: FloatArray) -> NDArray[np.float64]:
        """Probabilities float64 [N, K] from the network's `logits` float [N, K].

        Each row sums to 1, but for multi-label answers, where each label has a probability of its own.
        """
        return TASK_MEASURES[self.task].probs(self.calibrated_logits(logits))

    def preds(self, probs: FloatArray) -> BoolArray:
        """The predicted classes, bool [N, K], of `probs` float [N, K]: the most probable, or all from their threshold on."""
        return TASK_MEASURES[self.task].preds(probs, self.thresholds.values if self.thresholds else ())

    def check_classes(self, num_classes: int) -> None:
        """BundleError where it was fitted for another number of classes."""
        thresholds = self.thresholds.values if self.thresholds else ()
        for per_class in (self.scaling.factors, self.sets.class_quantiles if self.sets else (), thresholds):
            if per_class and len(per_class) != num_classes:
                raise BundleError(
                    f"calibration.json is for {len(per_class)} classes and the model has {num_classes}; "
                    "the bundle is not used."
                )

    def to_dict(self) -> dict[str, Any]:
        table = self.scaling.to_dict()
        parts = {"sets": self.sets, "unknown": self.unknown, "thresholds": self.thresholds}
        return table | {key: part.to_dict() for key, part in parts.items() if part is not None}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Calibration:
        """From `calibration.json`. What is unknown here is refused: to leave it out would change answers."""
        if not isinstance(table, Mapping) or "method" not in table:
            raise BundleError("calibration.json has no 'method'; it is damaged or was not written by recog.")
        unknown = [key for key in table if key not in _KEYS]
        if table["method"] not in METHODS or unknown:
            what = f"has the unknown key '{unknown[0]}'" if unknown else f"says method {table['method']!r}"
            raise BundleError(
                f"calibration.json {what}; known here: method {', '.join(METHODS)}. "
                "A newer release of recog wrote it: install that version or newer."
            )
        try:
            return cls(
                scaling=Scaling.from_dict({key: table[key] for key in _SCALING_KEYS if key in table}),
                sets=ConformalSets.from_dict(table["sets"]) if "sets" in table else None,
                unknown=UnknownRule.from_dict(table["unknown"]) if "unknown" in table else None,
                thresholds=LabelThresholds.from_dict(table["thresholds"]) if "thresholds" in table else None,
            )
        except (ConfigError, TypeError) as error:
            raise BundleError(f"calibration.json is damaged: {error}") from None


def fit_calibration(
    logits: FloatArray,
    labels: IntArray,
    config: CalibrationConfig,
    *,
    data: str,
    coins: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit what `config` asks for on `logits` float [N, K] and `labels` int [N] that neither trained nor test the network.

    `data` says in words which images they are; `coins` float64 [N] are those of `image_coins`, without them by row number.
    """
    scaling = fit_scaling(logits, labels, method=config.method, data=data)
    if config.conformal == "none":
        return Calibration(scaling=scaling)
    sets = fit_sets(
        softmax(scale_held_out(logits, labels, scaling.method)),  # as new images are: scaled by a fit without them
        labels,
        row_coins(np.arange(len(labels))) if coins is None else coins,
        method=config.conformal,
        alpha=config.alpha,
        class_conditional=config.class_conditional,
        data=data,
    )
    return Calibration(scaling=scaling, sets=sets)
