"""Temperature scaling: one number that makes confidence match accuracy, and cannot change an answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.arrays import FloatArray, IntArray, check_labels, check_logits
from recog.evaluation.probability import nll, softmax

MAX_TEMPERATURE = 100.0  # and its inverse the least: beyond, the data ask for certainty or for none at all


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    temperature: float  # logits are divided by it; above 1 the network was too sure
    is_bounded: bool  # True: the data would have it beyond 1/100..100, as where every answer is right
    num_images: int
    nll_before: float
    nll_after: float


def scale_logits(logits: FloatArray, temperature: float) -> NDArray[np.float64]:
    """`logits` float [N, K] divided by `temperature` > 0: float64 [N, K]."""
    return logits.astype(np.float64) / temperature


def fit_temperature(logits: FloatArray, labels: IntArray) -> TemperatureFit:
    """The temperature with the lowest NLL of `labels` int [N] under softmax(`logits` float [N, K] / temperature).

    Fit it on images that neither trained the network nor test it. The NLL is convex in the inverse temperature, so its
    slope there, mean expected logit less mean true logit, has one root. Guo et al. (2017), ICML.
    """
    from scipy.optimize import brentq  # only fitting needs it, and answering shall begin at once

    check_logits(logits)
    check_labels(labels, *logits.shape)
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)  # softmax does not see it, and products stay small
    truth = wide[np.arange(len(labels)), labels].mean()

    def slope(log_inverse: float) -> float:
        return float((softmax(wide * np.exp(log_inverse)) * wide).sum(axis=1).mean() - truth)

    end = float(np.log(MAX_TEMPERATURE))
    low, high = slope(-end), slope(end)
    is_bounded = low >= 0 or high <= 0
    if is_bounded:
        temperature = 1.0 if low == high else (MAX_TEMPERATURE if low >= 0 else 1 / MAX_TEMPERATURE)
    else:
        temperature = float(np.exp(-brentq(slope, -end, end, xtol=1e-12)))
    return TemperatureFit(
        temperature=temperature,
        is_bounded=is_bounded,
        num_images=len(labels),
        nll_before=nll(logits, labels),
        nll_after=nll(scale_logits(logits, temperature), labels),
    )
