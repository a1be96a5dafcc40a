"""`calibration.json`: how a bundle's logits become probabilities. Every way of predicting calls `apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError
from recog.evaluation.arrays import FloatArray
from recog.evaluation.probability import softmax

METHODS = ("none",)
_KEYS = ("method",)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    method: str = "none"  # 'none': the softmax as the network gives it

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"calibration method is {self.method!r}; expected one of {', '.join(METHODS)}.")

    def calibrated_logits(self, logits: FloatArray) -> FloatArray:
        """Logits float [N, K] whose softmax are the probabilities; what the NLL is taken from."""
        return logits

    def apply(self, logits: FloatArray) -> NDArray[np.float64]:
        """Probabilities float64 [N, K], each row summing to 1, from the network's `logits` float [N, K]."""
        return softmax(self.calibrated_logits(logits))

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Calibration:
        """From `calibration.json`. What is unknown here is refused: to leave it out would change answers."""
        if not isinstance(table, Mapping) or "method" not in table:
            raise BundleError("calibration.json has no 'method'; it is damaged or was not written by recog.")
        unknown = [key for key in table if key not in _KEYS]
        if table["method"] not in METHODS or unknown:
            what = f"has the unknown key '{unknown[0]}'" if unknown else f"says method {table['method']!r}"
            raise BundleError(
                f"calibration.json {what}; known here: method {', '.join(METHODS)} only. "
                "A newer release of recog wrote it: install that version or newer."
            )
        return cls(method=table["method"])
