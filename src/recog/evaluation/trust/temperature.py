"""Temperature and vector scaling: one number, or two per class, that make confidence match accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.arrays import FloatArray, IntArray, TargetArray, check_labels, check_logits
from recog.evaluation.measures.probability import nll, softmax
from recog.evaluation.measures.task import task_of

_FACTORS = (0.01, 100.0)
_OFFSETS = (-100.0, 100.0)

MAX_TEMPERATURE = 100.0  # and its inverse the least: beyond, the data ask for certainty or for none at all


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    temperature: float  # logits are divided by it; above 1: the network was overconfident
    is_bounded: bool  # True: the data would have it beyond 1/100..100, such as where every prediction is right
    num_images: int
    nll_before: float
    nll_after: float


def scale_logits(logits: FloatArray, temperature: float) -> NDArray[np.float64]:
    """`logits` float [N, K] divided by `temperature` > 0: float64 [N, K]."""
    return logits.astype(np.float64) / temperature


def fit_temperature(logits: FloatArray, targets: TargetArray) -> TemperatureFit:
    """The temperature with the lowest NLL of `targets` (labels [N], or 0 and 1 [N, K]) under `logits` float [N, K] / temperature.

    Fit it on images that neither trained the network nor test it. The NLL is convex in the inverse temperature, so its
    slope there, the sum of logit times (probability - target), has one root. Guo et al. (2017), ICML.
    """
    from scipy.optimize import brentq  # only fitting needs it; prediction must start quickly

    check_logits(logits)
    measures = task_of(targets)
    is_class = measures.is_class(targets, *logits.shape)
    centred = measures.centred(logits)

    def slope(log_inverse: float) -> float:
        gaps = measures.probs(centred * np.exp(log_inverse)) - is_class
        return float((gaps * centred).sum(axis=1).mean())

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
        num_images=len(targets),
        nll_before=measures.nll(logits, targets),
        nll_after=measures.nll(scale_logits(logits, temperature), targets),
    )


@dataclass(frozen=True, kw_only=True)
class VectorFit:
    factors: tuple[float, ...]  # [K], above 0
    offsets: tuple[float, ...]  # [K], their sum 0, as softmax does not see a common one
    num_images: int
    nll_before: float
    nll_after: float


def scale_by_class(logits: FloatArray, factors: tuple[float, ...], offsets: tuple[float, ...]) -> NDArray[np.float64]:
    """`logits` float [N, K] * factors [K] + offsets [K]: float64 [N, K]."""
    scaled: NDArray[np.float64] = logits.astype(np.float64) * np.asarray(factors) + np.asarray(offsets)
    return scaled


def fit_vector(logits: FloatArray, labels: IntArray) -> VectorFit:
    """Factors and offsets with the lowest NLL of `labels` int [N] under softmax(factors * `logits` float [N, K] + offsets).

    Begins at temperature scaling; the NLL is convex in both, so where it ends is the lowest. Fit it on images that neither
    trained the network nor test it, many for each class. Guo et al. (2017), ICML.
    """
    from scipy.optimize import minimize  # only fitting needs it; prediction must start quickly

    check_logits(logits)
    num_images, num_classes = logits.shape
    check_labels(labels, num_images, num_classes)
    wide = logits.astype(np.float64)
    rows = np.arange(num_images)

    def loss(params: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factors, offsets = params[:num_classes], params[num_classes:]
        scaled = wide * factors + offsets
        gap = softmax(scaled)
        gap[rows, labels] -= 1
        slope = np.concatenate([(gap * wide).mean(axis=0), gap.mean(axis=0)])
        return nll(scaled, labels), slope

    start = np.concatenate(
        [np.full(num_classes, 1 / fit_temperature(logits, labels).temperature), np.zeros(num_classes)]
    )
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[_FACTORS] * num_classes + [_OFFSETS] * num_classes,
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
    ).x
    offsets = found[num_classes:] - found[num_classes:].mean()
    factors = tuple(found[:num_classes].tolist())
    return VectorFit(
        factors=factors,
        offsets=tuple(offsets.tolist()),
        num_images=num_images,
        nll_before=nll(logits, labels),
        nll_after=nll(scale_by_class(logits, factors, tuple(offsets)), labels),
    )
