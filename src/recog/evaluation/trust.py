"""What a report says of the bundle's calibration, on the images measured: the probabilities before and after scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from recog.core.config import build_config
from recog.evaluation.arrays import FloatArray, IntArray
from recog.evaluation.calibration import Calibration
from recog.evaluation.probability import ece_equal_width, nll, softmax
from recog.evaluation.scaling import ScalingFit


@dataclass(frozen=True, kw_only=True)
class ScalingEvidence:
    """The softmax as the network gives it, on the images measured; the report's own NLL and ECE are after scaling."""

    nll_before: float
    ece_before: float
    fit: ScalingFit | None  # on the calibration images; None where nothing was fitted


@dataclass(frozen=True, kw_only=True)
class Trust:
    scaling: ScalingEvidence

    def to_dict(self) -> dict[str, Any]:
        return {"scaling": asdict(self.scaling)}


def measure_trust(calibration: Calibration, logits: FloatArray, labels: IntArray) -> Trust:
    """From the network's `logits` float [N, K] and `labels` int [N]."""
    return Trust(
        scaling=ScalingEvidence(
            nll_before=nll(logits, labels),
            ece_before=ece_equal_width(softmax(logits), labels),
            fit=calibration.scaling.fit,
        )
    )


def parse_trust(table: Mapping[str, Any] | None) -> Trust | None:
    """From `report.json`; KeyError, TypeError, ValueError or ConfigError where a number is missing or impossible."""
    if table is None:
        return None
    scaling = build_config(ScalingEvidence, table["scaling"], "trust.scaling.")
    rates = [scaling.ece_before]
    losses = [scaling.nll_before]
    if scaling.fit is not None:
        rates += [scaling.fit.ece_before, scaling.fit.ece_after]
        losses += [scaling.fit.nll_before, scaling.fit.nll_after]
    if not all(0 <= rate <= 1 + 1e-9 for rate in rates) or not all(isfinite(loss) and loss >= 0 for loss in losses):
        raise ValueError("'trust' has an impossible NLL or ECE.")
    return Trust(scaling=scaling)
