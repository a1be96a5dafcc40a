"""Scaling of logits before the softmax or sigmoid: none, one temperature, or a factor and an offset per class.

It is chosen on held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import permutation
from recog.core.errors import ConfigError
from recog.evaluation.measures.arrays import FloatArray, IntArray, TargetArray, check_labels, check_logits
from recog.evaluation.measures.probability import nll, softmax
from recog.evaluation.measures.task import task_of

ScalingMethod = Literal["none", "temperature", "vector"]
METHODS: tuple[str, ...] = get_args(ScalingMethod)
NUM_FOLDS = 5
AS_REQUESTED = "as requested"
TOO_FEW = "one image is too few to fit anything"
UNBOUNDED = "all predictions on the calibration images are right, or all are wrong, so no temperature can be fitted"
ECE_TOLERANCE = 0.005  # half a point: a smaller rise is chance, as the accuracy of 1,000 images varies by twice as much
MAX_SCALE = 1e6  # of temperatures, factors and offsets that are read, and the inverse of the least; fits end at 100
MIN_VECTOR_IMAGES = 500  # below, and below 50 for each class, two numbers a class fit chance
MIN_VECTOR_IMAGES_PER_CLASS = 50


@dataclass(frozen=True, kw_only=True)
class ScalingFit:
    """The images of the fit, and its effect there. 'After' is by cross-validation: each image scaled by a fit without it."""

    data: str  # which images, in words
    reason: str  # why this method
    num_images: int
    num_folds: int  # of the cross-validation; 0: nothing was fitted, 'after' is 'before'
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float

    def __post_init__(self) -> None:
        losses, rates = (self.nll_before, self.nll_after), (self.ece_before, self.ece_after)
        if min(self.num_images, self.num_folds, *losses, *rates) < 0 or max(rates) > 1 + 1e-9:
            raise ConfigError("the fit of the calibration has an impossible count, NLL or ECE.")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """`fit` is None where no images were given."""

    method: ScalingMethod = "none"
    temperature: float = 1.0  # of 'temperature': logits are divided by it
    factors: tuple[float, ...] = ()  # [K] of 'vector'
    offsets: tuple[float, ...] = ()  # [K] of 'vector'
    fit: ScalingFit | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"calibration method is {self.method!r}; expected one of {', '.join(METHODS)}.")
        scales, offsets = np.array([self.temperature, *self.factors]), np.abs(self.offsets)
        if not ((scales >= 1 / MAX_SCALE).all() and (scales <= MAX_SCALE).all() and (offsets <= MAX_SCALE).all()):
            raise ConfigError(
                f"calibration has a temperature or factor that is not from {1 / MAX_SCALE:g} to {MAX_SCALE:g}, or an offset "
                f"beyond {MAX_SCALE:g}."
            )
        if (self.method == "vector") != bool(self.factors) or len(self.factors) != len(self.offsets):
            raise ConfigError(
                f"calibration method {self.method} has {len(self.factors)} factors and {len(self.offsets)} offsets; "
                "'vector' has one of each for a class, the others have none."
            )

    def apply(self, logits: FloatArray) -> FloatArray:
        """Scaled logits float [N, K] of the network's `logits` float [N, K]."""
        if self.method == "temperature":
            return scale_logits(logits, self.temperature)
        if self.method == "vector":
            return scale_by_class(logits, self.factors, self.offsets)
        return logits

    def to_dict(self) -> dict[str, Any]:
        table: dict[str, Any] = {"method": self.method}
        if self.method == "temperature":
            table["temperature"] = self.temperature
        if self.method == "vector":
            table |= {"factors": list(self.factors), "offsets": list(self.offsets)}
        return table | ({"fit": asdict(self.fit)} if self.fit else {})


def fit_scaling(
    logits: FloatArray, targets: TargetArray, *, method: str = "auto", data: str = "given images"
) -> Scaling:
    """Fit on `logits` float [N, K] and `targets` of images that neither trained nor test the network; `data` names them.

    'auto' takes what cross-fitting finds, in which each image is scaled by a fit on others: temperature where it lowers the NLL,
    vector (multiclass) where that lowers it
    further by more than the standard error of the difference and images are many, none of
    them where it raises the ECE by more than ECE_TOLERANCE; else none.
    """
    check_logits(logits)
    measures = task_of(targets)
    measures.is_class(targets, *logits.shape)
    if method not in ("auto", *METHODS):
        raise ConfigError(f"calibration.method is {method!r}; it must be one of auto, {', '.join(METHODS)}.")
    if method not in ("auto", *measures.scaling_methods):
        raise ConfigError(
            f"calibration.method is {method!r}, which needs exactly one class per image; for {measures.task} data it must be "
            f"one of auto, {', '.join(measures.scaling_methods)}."
        )
    folds = deal_folds(measures.strata(targets))
    num_folds = int(folds.max()) + 1
    if method == "none" or num_folds < 2:
        reason = AS_REQUESTED if method == "none" else TOO_FEW
        return Scaling(fit=_describe(logits, logits, targets, data=data, reason=reason, num_folds=0))
    held_out: dict[str, FloatArray] = {
        "none": logits,
        "temperature": _cross_fitted("temperature", logits, targets, folds),
    }
    if method == "vector" or (method == "auto" and "vector" in measures.scaling_methods and _has_many(*logits.shape)):
        held_out["vector"] = _cross_fitted("vector", logits, targets, folds)
    chosen, reason = _choose(held_out, targets) if method == "auto" else (method, AS_REQUESTED)
    if chosen != "vector" and fit_temperature(logits, targets).is_bounded:
        chosen, reason = "none", UNBOUNDED
    fit = _describe(
        logits, held_out[chosen], targets, data=data, reason=reason, num_folds=num_folds if chosen != "none" else 0
    )
    return _fitted(chosen, logits, targets, fit)


def scale_held_out(logits: FloatArray, targets: TargetArray, method: str) -> FloatArray:
    """Each image's logits scaled by a fit of `method` that had not seen it: float [N, K]. Of one image, as they are."""
    folds = deal_folds(task_of(targets).strata(targets))
    return logits if method == "none" or not folds.any() else _cross_fitted(method, logits, targets, folds)


def deal_folds(labels: IntArray, num_folds: int = NUM_FOLDS) -> NDArray[np.int64]:
    """A fold in 0..num_folds - 1 per image, int64 [N]: each class in random order, one fold after the other."""
    num_images = len(labels)
    order = permutation(0, 0, num_images, "calibration folds")
    order = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    folds = np.empty(num_images, dtype=np.int64)
    folds[order] = np.arange(num_images) % min(num_folds, num_images)
    return folds


def _has_many(num_images: int, num_classes: int) -> bool:
    return num_images >= max(MIN_VECTOR_IMAGES, MIN_VECTOR_IMAGES_PER_CLASS * num_classes)


def _fitted(method: str, logits: FloatArray, targets: TargetArray, fit: ScalingFit | None = None) -> Scaling:
    if method == "temperature":
        found = fit_temperature(logits, targets)
        if (
            found.is_bounded
        ):  # as where all are right: no temperature is fitted, here as in the cross-fitting of this rule
            return Scaling(fit=fit)
        return Scaling(method="temperature", temperature=found.temperature, fit=fit)
    if method == "vector":
        vector = fit_vector(logits, targets)
        return Scaling(method="vector", factors=vector.factors, offsets=vector.offsets, fit=fit)
    return Scaling(fit=fit)


def _cross_fitted(method: str, logits: FloatArray, targets: TargetArray, folds: NDArray[np.int64]) -> FloatArray:
    """Each image's logits scaled by the fit on the other folds: float64 [N, K]."""
    scaled = np.empty(logits.shape)
    for fold in range(int(folds.max()) + 1):
        rest, held_out = folds != fold, folds == fold
        scaled[held_out] = _fitted(method, logits[rest], targets[rest]).apply(logits[held_out])
    return scaled


def _choose(held_out: Mapping[str, FloatArray], targets: TargetArray) -> tuple[str, str]:
    """(method, why), from the cross-fitted NLL of each image; no method that raises the ECE beyond the tolerance."""
    measures = task_of(targets)
    eces = {method: measures.ece(measures.probs(scaled), targets) for method, scaled in held_out.items()}
    terms = {method: task_of(targets).nll_terms(scaled, targets) for method, scaled in held_out.items()}
    means = {method: float(values.mean()) for method, values in terms.items()}
    max_ece = eces["none"] + ECE_TOLERANCE
    if "vector" in terms:
        gain = terms["temperature"] - terms["vector"]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        if gain.mean() > error and means["vector"] < means["none"] and eces["vector"] <= max_ece:
            return "vector", (
                f"it lowers the cross-fitted NLL below temperature scaling's by {gain.mean():.4f}, standard error {error:.4f}"
            )
    if means["temperature"] < means["none"]:
        lowers = f"lowers the cross-fitted NLL from {means['none']:.4f} to {means['temperature']:.4f}"
        if eces["temperature"] > max_ece:
            raises = f"raises the cross-fitted ECE from {eces['none']:.1%} to {eces['temperature']:.1%}"
            return "none", f"a temperature {raises} (and {lowers})"
        rises = eces["temperature"] > eces["none"]
        return "temperature", f"it {lowers} and {'hardly raises' if rises else 'does not raise'} the ECE"
    return "none", (
        f"a temperature does not lower the cross-fitted NLL: {means['temperature']:.4f} with, {means['none']:.4f} without"
    )


def _describe(
    before: FloatArray, after: FloatArray, targets: TargetArray, *, data: str, reason: str, num_folds: int
) -> ScalingFit:
    measures = task_of(targets)
    return ScalingFit(
        data=data,
        reason=reason,
        num_images=len(targets),
        num_folds=num_folds,
        nll_before=measures.nll(before, targets),
        nll_after=measures.nll(after, targets),
        ece_before=measures.ece(measures.probs(before), targets),
        ece_after=measures.ece(measures.probs(after), targets),
    )


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
