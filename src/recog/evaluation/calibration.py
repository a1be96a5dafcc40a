"""`calibration.json`: how a bundle's logits become probabilities. Every way of predicting calls `apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError
from recog.evaluation.arrays import FloatArray, IntArray
from recog.evaluation.probability import softmax
from recog.evaluation.scaling import METHODS, Scaling, fit_scaling

_SCALING_KEYS = ("method", "temperature", "factors", "offsets", "fit")


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    method: str = "auto"  # 'auto': what cross-validation on the calibration images finds; or one of METHODS

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise ConfigError(f"calibration.method is {self.method!r}; it must be one of auto, {', '.join(METHODS)}.")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    scaling: Scaling = field(default_factory=Scaling)

    @property
    def method(self) -> str:
        """'none' where the probabilities are the softmax as the network gives it."""
        return self.scaling.method

    def calibrated_logits(self, logits: FloatArray) -> FloatArray:
        """Logits float [N, K] whose softmax are the probabilities; what the NLL is taken from."""
        return self.scaling.apply(logits)

    def apply(self, logits: FloatArray) -> NDArray[np.float64]:
        """Probabilities float64 [N, K], each row summing to 1, from the network's `logits` float [N, K]."""
        return softmax(self.calibrated_logits(logits))

    def check_classes(self, num_classes: int) -> None:
        """BundleError where it was fitted for another number of classes."""
        if self.scaling.factors and len(self.scaling.factors) != num_classes:
            raise BundleError(
                f"calibration.json is for {len(self.scaling.factors)} classes and the model has {num_classes}; "
                "the bundle is not used."
            )

    def to_dict(self) -> dict[str, Any]:
        return self.scaling.to_dict()

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Calibration:
        """From `calibration.json`. What is unknown here is refused: to leave it out would change answers."""
        if not isinstance(table, Mapping) or "method" not in table:
            raise BundleError("calibration.json has no 'method'; it is damaged or was not written by recog.")
        unknown = [key for key in table if key not in _SCALING_KEYS]
        if table["method"] not in METHODS or unknown:
            what = f"has the unknown key '{unknown[0]}'" if unknown else f"says method {table['method']!r}"
            raise BundleError(
                f"calibration.json {what}; known here: method {', '.join(METHODS)}. "
                "A newer release of recog wrote it: install that version or newer."
            )
        try:
            return cls(scaling=Scaling.from_dict({key: table[key] for key in _SCALING_KEYS if key in table}))
        except (ConfigError, TypeError) as error:
            raise BundleError(f"calibration.json is damaged: {error}") from None


def fit_calibration(logits: FloatArray, labels: IntArray, config: CalibrationConfig, *, data: str) -> Calibration:
    """Fit what `config` asks for on `logits` float [N, K] and `labels` int [N] that neither trained nor test the network.

    `data` says in words which images they are.
    """
    return Calibration(scaling=fit_scaling(logits, labels, method=config.method, data=data))
