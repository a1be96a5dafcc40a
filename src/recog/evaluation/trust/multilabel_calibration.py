"""Calibration of multi-label answers: one temperature for all labels, and a threshold for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from recog.core.errors import ConfigError
from recog.evaluation.measures.arrays import FloatArray, check_logits
from recog.evaluation.measures.multilabel import (
    BoolArray,
    TargetArray,
    bce,
    check_targets,
    label_ece,
    sigmoid,
)
from recog.evaluation.trust.calibration import Calibration, CalibrationConfig
from recog.evaluation.trust.scaling import Scaling, ScalingFit, deal_folds
from recog.evaluation.trust.temperature import MAX_TEMPERATURE, scale_logits
from recog.evaluation.trust.thresholds import choose_thresholds

_METHODS = ("auto", "none", "temperature")


def fit_multilabel_calibration(
    logits: FloatArray, targets: TargetArray, config: CalibrationConfig, *, data: str
) -> Calibration:
    """Fit on `logits` float [N, K] and `targets` [N, K] of 0 and 1 that neither trained nor test the network.

    'auto' takes a temperature where it lowers the cross-validated BCE. The thresholds are chosen on the calibrated
    probabilities of the same images, whose names in words are `data`.
    """
    check_logits(logits)
    is_shown = check_targets(targets, *logits.shape)
    if config.method not in _METHODS:
        raise ConfigError(
            f"calibration.method is '{config.method}', which is for images with one label each; of several labels it must be "
            f"one of {', '.join(_METHODS)}."
        )
    scaling = _fit_scaling(logits, is_shown, method=config.method, data=data)
    probs = sigmoid(scaling.apply(logits))
    return Calibration(scaling=scaling, thresholds=choose_thresholds(probs, is_shown, data=data))


def fit_sigmoid_temperature(logits: FloatArray, targets: BoolArray) -> tuple[float, bool]:
    """(temperature, whether it is at a bound) with the lowest BCE of `targets` under sigmoid(`logits` / temperature).

    The BCE is convex in the inverse temperature, so its slope there, the mean of logit times (probability - target), has one
    root. Guo et al. (2017), ICML, for softmax.
    """
    wide = logits.astype(np.float64)

    def slope(log_inverse: float) -> float:
        return float((wide * (expit(wide * np.exp(log_inverse)) - targets)).mean())

    end = float(np.log(MAX_TEMPERATURE))
    low, high = slope(-end), slope(end)
    if low >= 0 or high <= 0:
        return 1.0 if low == high else (MAX_TEMPERATURE if low >= 0 else 1 / MAX_TEMPERATURE), True
    return float(np.exp(-brentq(slope, -end, end, xtol=1e-12))), False


def _fit_scaling(logits: FloatArray, targets: BoolArray, *, method: str, data: str) -> Scaling:
    folds = deal_folds(np.zeros(len(logits), dtype=np.int64))
    num_folds = int(folds.max()) + 1
    if method == "none" or num_folds < 2:
        reason = "as asked for" if method == "none" else "one image is too few to fit anything"
        return Scaling(fit=_describe(logits, logits, targets, data=data, reason=reason, num_folds=0))
    held_out: NDArray[np.float64] = np.empty(logits.shape)
    for fold in range(num_folds):
        rest = folds != fold
        temperature, _ = fit_sigmoid_temperature(logits[rest], targets[rest])
        held_out[~rest] = scale_logits(logits[~rest], temperature)
    temperature, is_bounded = fit_sigmoid_temperature(logits, targets)
    before, after = bce(logits, targets), bce(held_out, targets)
    if is_bounded:
        reason = "every answer or none is right on these images, so they do not bound a temperature"
    elif method == "auto" and after >= before:
        reason = f"a temperature does not lower the cross-validated BCE: {after:.4f} with, {before:.4f} without"
    else:
        reason = (
            "as asked for"
            if method != "auto"
            else f"it lowers the cross-validated BCE from {before:.4f} to {after:.4f}"
        )
        fit = _describe(logits, held_out, targets, data=data, reason=reason, num_folds=num_folds)
        return Scaling(method="temperature", temperature=temperature, fit=fit)
    return Scaling(fit=_describe(logits, logits, targets, data=data, reason=reason, num_folds=0))


def _describe(
    before: FloatArray, after: FloatArray, targets: BoolArray, *, data: str, reason: str, num_folds: int
) -> ScalingFit:
    return ScalingFit(
        data=data,
        reason=reason,
        num_images=len(targets),
        num_folds=num_folds,
        nll_before=bce(before, targets),
        nll_after=bce(after, targets),
        ece_before=label_ece(sigmoid(before), targets),
        ece_after=label_ece(sigmoid(after), targets),
    )
