"""`calibration.json`: from logits to probabilities, predictions, prediction sets and 'unknown'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError, DataError
from recog.core.records import convert_record
from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray, FloatArray, IntArray, TargetArray
from recog.evaluation.measures.probability import softmax
from recog.evaluation.measures.task import TASK_MEASURES, task_of
from recog.evaluation.trust.conformal import SET_METHODS, ConformalSets, choose_alpha, fit_sets, row_coins
from recog.evaluation.trust.scaling import METHODS, Scaling, fit_scaling, scale_held_out
from recog.evaluation.trust.thresholds import DecisionThreshold, LabelThresholds, choose_thresholds, parse_aim
from recog.evaluation.trust.unknown import UNKNOWN_METHODS, UnknownRule


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    method: str = "auto"  # 'auto': what cross-validation on the calibration images finds; or one of METHODS
    conformal: str = "lac"  # how prediction sets are made, one of SET_METHODS; or 'none'
    alpha: float | None = None  # the share of images whose set may lack the true class; by the accuracy if None
    class_conditional: bool = False  # hold alpha within each class that has 200 calibration images
    unknown: str = (
        "auto"  # the score of 'unknown': 'auto' compares all by leaving classes out; one of UNKNOWN_METHODS; 'none'
    )
    false_alarm_rate: float = 0.05  # the share of images of known classes that may be called unknown
    threshold: str = ""  # of two classes, chosen by an aim such as f1, see parse_aim; if empty, none
    positive: str = ""  # the class that `threshold` is about; the second one if empty

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
        if self.threshold:
            parse_aim(self.threshold)
        elif self.positive:
            raise ConfigError(
                f"calibration.positive is {self.positive!r}, which only a threshold uses; add --threshold, such as "
                "--threshold f1, or leave --positive out."
            )
        for name in ("alpha", "false_alarm_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"calibration.{name} is {value}; it must lie between 0 and 1, such as 0.1.")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    scaling: Scaling = field(default_factory=Scaling)
    sets: ConformalSets | None = None  # None: the bundle gives no prediction sets
    unknown: UnknownRule | None = None  # None: the bundle calls nothing unknown
    thresholds: LabelThresholds | None = None  # of multi-label answers, whose probabilities are a sigmoid each
    decision: DecisionThreshold | None = None  # of two classes; None: the most probable class is predicted

    @property
    def task(self) -> Task:
        return "multiclass" if self.thresholds is None else "multilabel"

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """[K], as TaskMeasures.preds takes them; none where the most probable class is predicted."""
        chosen = self.thresholds or self.decision
        return chosen.values if chosen else ()

    @property
    def label_thresholds(self) -> LabelThresholds:
        """DataError where there are none."""
        if self.thresholds is None:
            raise DataError("the calibration has no label thresholds; a multi-label model is measured with them.")
        return self.thresholds

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
        """The predicted classes, bool [N, K], of `probs` float [N, K]: the most probable, or by their thresholds."""
        return TASK_MEASURES[self.task].preds(probs, self.threshold_values)

    def prediction_sets(self, probs: FloatArray, coins: NDArray[np.float64]) -> BoolArray | None:
        """Bool [N, K] of `probs` float [N, K] and the images' `coins` float64 [N]; None where the bundle makes none."""
        if self.sets is None:
            return None
        sets = self.sets.sets(probs, coins)
        if self.decision is None:
            return sets
        return sets | self.preds(probs)  # a threshold may predict what a set lacks; a larger set covers no less

    def check_classes(self, num_classes: int) -> None:
        """BundleError where it was fitted for another number of classes."""
        quantiles = self.sets.class_quantiles if self.sets else ()
        for per_class in (self.scaling.factors, quantiles, self.threshold_values):
            if per_class and len(per_class) != num_classes:
                raise BundleError(
                    f"calibration.json is for {len(per_class)} classes and the model has {num_classes}; "
                    "the bundle is not used."
                )

    def to_dict(self) -> dict[str, Any]:
        table = self.scaling.to_dict()
        parts = {key: getattr(self, key) for key in _PARTS}
        return table | {key: part.to_dict() for key, part in parts.items() if part is not None}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Calibration:
        """From `calibration.json`. Unknown keys are refused: ignoring them would change predictions."""
        if "method" not in table:
            raise BundleError("calibration.json has no 'method'; it is damaged or was not written by recog.")
        if table["method"] not in METHODS:
            raise BundleError(
                f"calibration.json has method {table['method']!r}; known here: {', '.join(METHODS)}. "
                "A newer release of recog wrote it: install that version or newer."
            )
        if table["method"] == "temperature" and "temperature" not in table:
            raise BundleError("calibration.json has method 'temperature' and no temperature; it is damaged.")
        found = convert_record(table, _File, where="calibration.json")
        scaling = Scaling(**{field.name: getattr(found, field.name) for field in fields(Scaling)})
        calibration = cls(scaling=scaling, **{key: getattr(found, key) for key in _PARTS})
        if calibration.thresholds is not None and calibration.decision is not None:
            raise BundleError("calibration.json has thresholds of labels and one of two classes; it is damaged.")
        for key in _unknown_keys(table, calibration.to_dict()):
            raise BundleError(
                f"calibration.json has the unknown key '{key}'. "
                "A newer release of recog wrote it: install that version or newer."
            )
        return calibration


@dataclass(frozen=True, kw_only=True)
class _File(Scaling):
    """`calibration.json`: the scaling's own keys beside the other parts."""

    sets: ConformalSets | None = None
    unknown: UnknownRule | None = None
    thresholds: LabelThresholds | None = None
    decision: DecisionThreshold | None = None


_PARTS = ("sets", "unknown", "thresholds", "decision")  # of Calibration and of calibration.json, beside the scaling


def _unknown_keys(table: Mapping[str, Any], known: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key, value in table.items():
        if key not in known:
            yield where + key
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            yield from _unknown_keys(value, known[key], f"{where}{key}.")


def fit_calibration(
    logits: FloatArray,
    targets: TargetArray,
    config: CalibrationConfig,
    *,
    data: str,
    coins: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit what `config` asks for on `logits` float [N, K] and `targets` of images that neither trained nor test the network.

    `data` names the images; `coins` float64 [N] are those of `image_coins`, by default by row number. Multilabel: a
    temperature, and thresholds chosen on the calibrated probabilities.
    """
    scaling = fit_scaling(logits, targets, method=config.method, data=data)
    return _FITS[task_of(targets).task](
        scaling, logits, targets, config, row_coins(np.arange(len(targets))) if coins is None else coins
    )


def _with_sets(
    scaling: Scaling, logits: FloatArray, labels: IntArray, config: CalibrationConfig, coins: NDArray[np.float64]
) -> Calibration:
    if config.conformal == "none":
        return Calibration(scaling=scaling)
    sets = fit_sets(
        softmax(scale_held_out(logits, labels, scaling.method)),  # as new images are: scaled by a fit without them
        labels,
        coins,
        method=config.conformal,
        alpha=choose_alpha(logits, labels) if config.alpha is None else config.alpha,
        class_conditional=config.class_conditional,
        data=_data_of(scaling),
    )
    return Calibration(scaling=scaling, sets=sets)


def _with_thresholds(
    scaling: Scaling, logits: FloatArray, targets: TargetArray, config: CalibrationConfig, coins: NDArray[np.float64]
) -> Calibration:
    is_class = TASK_MEASURES["multilabel"].is_class(targets, *logits.shape)
    probs = TASK_MEASURES["multilabel"].probs(scaling.apply(logits))
    return Calibration(scaling=scaling, thresholds=choose_thresholds(probs, is_class, data=_data_of(scaling)))


def _data_of(scaling: Scaling) -> str:
    return scaling.fit.data if scaling.fit else ""


_FITS: Mapping[Task, Callable[..., Calibration]] = MappingProxyType(
    {"multiclass": _with_sets, "multilabel": _with_thresholds}
)
