"""'Unknown': a score of how unlike the known classes an image is, and the threshold from which it is called so.

Every score is higher the stranger the image. The threshold is a conformal quantile: of images like those of calibration at
most the stated share is called unknown by mistake. No threshold guarantees what share of unfamiliar images is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError, ConfigError, DataError
from recog.evaluation.measures.arrays import FloatArray, IntArray, check_logits
from recog.evaluation.measures.probability import softmax
from recog.evaluation.trust.conformal import conformal_quantile

UNKNOWN = "unknown"  # the answer
UnknownMethod = Literal["max_softmax", "energy", "knn", "mahalanobis", "energy_mahalanobis"]
UNKNOWN_METHODS: tuple[str, ...] = get_args(UnknownMethod)
DISTANCE_METHODS = ("mahalanobis", "energy_mahalanobis")
FEATURE_METHODS = ("knn", *DISTANCE_METHODS)
MAX_NEIGHBOURS = 10
MAX_NUMBER = 1e100  # of a threshold or weight: their product with any distance is finite
MAX_DIMENSIONS = 2560  # of features, for Mahalanobis: its matrix has their square


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One score's AUROC for telling images of a class that was left out from those of the other classes."""

    method: str
    mean_auroc: float  # over the classes left out
    min_auroc: float

    def __post_init__(self) -> None:
        if self.method not in UNKNOWN_METHODS or not 0 <= self.min_auroc <= 1 or not 0 <= self.mean_auroc <= 1:
            raise ConfigError(f"the score {self.method!r} is not known, or its AUROC is not from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class UnknownRule:
    """An image is unknown where its score is above the threshold; a threshold of None decides nothing; the reason is recorded."""

    method: UnknownMethod
    threshold: float | None
    false_alarm_rate: float
    num_images: int  # of calibration
    data: str  # which images, in words
    reason: str  # why this score, or why there is no threshold
    num_neighbours: int = 0  # of 'knn'
    weight: float | None = None  # of the distance: 1 for 'mahalanobis', beside the energy for 'energy_mahalanobis'
    left_out: tuple[LeftOut, ...] = ()  # the scores that were compared, the best first
    num_left_out: int = 0  # classes that were left out, each once

    def __post_init__(self) -> None:
        if self.method not in UNKNOWN_METHODS:
            raise ConfigError(f"the unknown score is {self.method!r}; expected one of {', '.join(UNKNOWN_METHODS)}.")
        numbers = (self.threshold or 0.0, self.weight or 0.0)
        counts = (self.num_neighbours, self.num_images, self.num_left_out)
        if not 0 < self.false_alarm_rate < 1 or not (np.abs(numbers) <= MAX_NUMBER).all() or min(counts) < 0:
            raise ConfigError("the rule for 'unknown' has an impossible number.")
        if self.method == "knn" and self.num_neighbours < 1:
            raise ConfigError("the rule for 'unknown' asks for the distance to no neighbour.")
        if self.method in DISTANCE_METHODS and self.weight is None:
            raise ConfigError("the rule for 'unknown' lacks the weight of its distance.")

    @property
    def needs_features(self) -> bool:
        return self.method in FEATURE_METHODS

    def scores(
        self, logits: FloatArray, features: FloatArray, statistics: FeatureStatistics | None
    ) -> NDArray[np.float64]:
        """float64 [N] from the network's `logits` float [N, K] and `features` float [N, D]."""
        return unknown_scores(
            self.method, logits, features, statistics, num_neighbours=self.num_neighbours, weight=self.weight
        )

    def is_unknown(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        if self.threshold is None:
            raise ConfigError(f"this bundle does not tell what is unknown: {self.reason}.")
        return scores > self.threshold

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"left_out": [asdict(row) for row in self.left_out]}


def _nothing() -> NDArray[np.float32]:
    return np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureStatistics:
    """What the scores need of the training images: a bank for 'knn', else whitened class means. Unused parts are empty.

    All are of features at length 1. Where there is a view, they are of the last D columns of the features, times `view_scale` and
    plus `view_shift`: of several layers, standardised, the last layer's own values tell more.
    """

    bank: NDArray[np.float16] | NDArray[np.float32] = field(default_factory=_nothing)  # [M, D] float16
    unit_whitening: NDArray[np.float32] = field(default_factory=_nothing)  # [D, D]: behind it the distance is Euclidean
    unit_centres: NDArray[np.float32] = field(default_factory=_nothing)  # [K, D] means of the classes, whitened
    view_scale: NDArray[np.float32] = field(default_factory=_nothing)  # [1, D]
    view_shift: NDArray[np.float32] = field(default_factory=_nothing)  # [1, D]

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        return {name: tensor for name, tensor in vars(self).items() if tensor.size}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> FeatureStatistics:
        """From `features.safetensors`; BundleError where it holds anything else."""
        for name, tensor in tensors.items():
            kind = {"bank": np.float16}.get(name, np.float32)
            known = name in cls.__dataclass_fields__
            if not known or tensor.dtype != kind or tensor.ndim != 2 or not np.isfinite(tensor).all():
                raise BundleError(
                    f"features.safetensors has a part '{name}' that this release cannot use: another one wrote it, or it is "
                    "damaged. Only `--reject` needs the file; train again to have it."
                )
        return cls(**tensors)

    def view(self, features: FloatArray) -> FloatArray:
        """The part float [N, D] of the network's `features` float [N, F] that distances are measured in; all without a view.

        BundleError for a view of other features.
        """
        if not self.view_scale.size:
            return features
        length = self.view_scale.shape[1]
        if self.view_shift.shape != (1, length) or length > features.shape[1]:
            raise BundleError(
                f"features.safetensors has a view of shapes {self.view_scale.shape} and {self.view_shift.shape}, which does not "
                f"fit the {features.shape[1]} features of the model; the bundle is not used."
            )
        part: FloatArray = features[:, -length:] * self.view_scale + self.view_shift
        return part

    def check(self, method: str, num_features: int) -> None:
        """BundleError where a part that `method` needs is absent or for features of another length."""
        needed = ("bank",) if method == "knn" else ("unit_whitening", "unit_centres")
        for name in needed:
            tensor = getattr(self, name)
            if tensor.shape[1] != num_features or not len(tensor):
                raise BundleError(
                    f"features.safetensors has '{name}' of shape {tensor.shape}, which does not fit the {num_features} "
                    "features of the model; the bundle is not used."
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """What Mahalanobis needs of features at length 1: images and mean of each class, and the scatter within them, summed."""

    counts: NDArray[np.int64]  # [K]
    means: NDArray[np.float64]  # [K, D]
    within: NDArray[np.float64]  # [D, D]

    @classmethod
    def of(cls, features: FloatArray, labels: IntArray) -> Moments:
        """From `features` float [M, D] and `labels` int [M]; classes without an image have no row."""
        present, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
        rows = unit_rows(features).astype(np.float64)
        means = np.stack([rows[labels == k].mean(axis=0) for k in present])
        centred = rows - means[places]
        return cls(counts=counts, means=means, within=centred.T @ centred)

    def without(self, place: int, features: FloatArray) -> Moments:
        """Less the class in row `place`, whose images have `features` float [m, D]: far cheaper than anew."""
        centred = unit_rows(features).astype(np.float64) - self.means[place]
        return Moments(
            counts=np.delete(self.counts, place),
            means=np.delete(self.means, place, axis=0),
            within=self.within - centred.T @ centred,
        )

    def statistics(self) -> FeatureStatistics:
        num_images = int(self.counts.sum())
        whitening = whiten(shrink(self.within / num_images, num_images))
        return FeatureStatistics(
            unit_whitening=whitening.astype(np.float32), unit_centres=(self.means @ whitening).astype(np.float32)
        )


def fit_statistics(method: str, features: FloatArray, labels: IntArray) -> FeatureStatistics | None:
    """What `method` needs of the training images' `features` float [M, D] and `labels` int [M]; None where it needs nothing."""
    if method == "knn":
        return FeatureStatistics(bank=unit_rows(features).astype(np.float16))
    return Moments.of(features, labels).statistics() if method in FEATURE_METHODS else None


def unknown_scores(
    method: str,
    logits: FloatArray,
    features: FloatArray,
    statistics: FeatureStatistics | None,
    *,
    num_neighbours: int = MAX_NEIGHBOURS,
    weight: float | None = None,
) -> NDArray[np.float64]:
    """How unfamiliar each image is, float64 [N], from `logits` float [N, K] and `features` float [N, D] of the network.

    'max_softmax': less the largest probability, the baseline; Hendrycks and Gimpel (2017), ICLR.
    'energy': less the logarithm of the summed exponentials of the logits; Liu et al. (2020), NeurIPS.
    'knn': the distance to the k-th nearest training image, features at length 1; Sun et al. (2022), ICML.
    'mahalanobis': the distance to the nearest class by the classes' common covariance, shrunk for few images; Lee et al.
    (2018), NeurIPS; of features at length 1, as in Mueller and Hein (2025), ICML.
    'energy_mahalanobis': the energy and `weight` times that distance, as ViM joins logits and features (Wang et al., 2022,
    CVPR): logits tell a near stranger better, features a far one.
    """
    check_logits(logits)
    if method == "max_softmax":
        surest: NDArray[np.float64] = softmax(logits).max(axis=1)
        return -surest
    if method == "energy":
        return _energy(logits)
    if not np.isfinite(features).all():
        raise DataError("features are NaN or infinite; the network is broken or was given broken input.")
    if statistics is None:
        raise ConfigError(f"the score '{method}' needs features.safetensors, which this bundle lacks.")
    features = statistics.view(features)
    statistics.check(method, features.shape[1])
    if method == "knn":
        if not 1 <= num_neighbours <= len(statistics.bank):
            raise BundleError(
                f"the rule for 'unknown' asks for neighbour {num_neighbours:,} of {len(statistics.bank):,} in "
                "features.safetensors; the bundle is not used."
            )
        likeness = unit_rows(features) @ statistics.bank.astype(np.float32).T
        nearest = -np.partition(-likeness, num_neighbours - 1, axis=1)[:, num_neighbours - 1]
        lengths: NDArray[np.float64] = np.sqrt(np.maximum(0.0, 2 - 2 * nearest.astype(np.float64)))
        return lengths
    distances = _mahalanobis(features, statistics)
    return distances if method == "mahalanobis" else _energy(logits) + (weight or 0.0) * distances


def fit_weight(logits: FloatArray, features: FloatArray, statistics: FeatureStatistics) -> float:
    """The weight of 'energy_mahalanobis' that gives energy and distance the same spread over known images.

    The spread is from the median to the 95th percentile, the side of unfamiliar images. 0 where the distance has none.
    """
    spreads = []
    for scores in (_energy(logits), _mahalanobis(features, statistics)):
        middle, high = np.quantile(scores, [0.5, 0.95])
        spreads.append(float(high - middle))
    return spreads[0] / spreads[1] if spreads[1] > 0 else 0.0


def fit_rule(
    method: str,
    scores: NDArray[np.float64],
    *,
    false_alarm_rate: float,
    data: str,
    reason: str,
    num_neighbours: int = 0,
    weight: float | None = None,
) -> UnknownRule:
    """The threshold from the `scores` float64 [N] of known calibration images; without one where they are too few."""
    threshold = conformal_quantile(scores, false_alarm_rate)
    if threshold is None:
        reason = (
            f"{len(scores)} calibration images are too few for a false-alarm rate of {false_alarm_rate:.1%}; "
            f"at least {int(np.ceil(1 / false_alarm_rate)) - 1} are needed"
        )
    return UnknownRule(
        method=method,  # type: ignore[arg-type]  # the rule refuses any other
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        num_images=len(scores),
        data=data,
        reason=reason,
        num_neighbours=num_neighbours,
        weight=weight,
    )


def neighbours_for(labels: IntArray) -> int:
    """How many neighbours 'knn' asks for a bank with `labels` int [M]: ten, or half the smallest class where that is less."""
    counts = np.bincount(labels)
    return int(max(1, min(MAX_NEIGHBOURS, counts[counts > 0].min() // 2)))


def unit_rows(features: FloatArray) -> NDArray[np.float32]:
    """`features` float [N, D], each row at length 1: float32 [N, D]; a row of zeros stays."""
    wide = features.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    rows: NDArray[np.float32] = (wide / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return rows


def shrink(covariance: NDArray[np.float64], num_images: int) -> NDArray[np.float64]:
    """The `covariance` [D, D] of `num_images` images, drawn towards a multiple of the identity as far as their number asks for.

    So it can be inverted even where images are fewer than features. OAS: Chen et al. (2010), IEEE Transactions on Signal
    Processing 58(10).
    """
    num_features = len(covariance)
    scale = float(np.trace(covariance)) / num_features
    if scale <= 0:
        return np.eye(num_features)
    power = float((covariance**2).mean())
    gap = (num_images + 1) * (power - scale**2 / num_features)
    shrinkage = min(1.0, (power + scale**2) / gap) if gap > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance
    # a floor of one millionth: with very many images of features that never vary there would be none
    shrunk[np.diag_indices(num_features)] += max(shrinkage, 1e-6) * scale
    return shrunk


def whiten(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """W [D, D] so that |x W|^2 is the squared Mahalanobis distance of x by the `covariance` [D, D], which has an inverse."""
    from scipy.linalg import cholesky, lapack  # only fitting needs it; prediction should start fast

    inverse, _ = lapack.dtrtri(
        cholesky(covariance, lower=True), lower=1
    )  # a third of the work of solving for the identity
    whitening: NDArray[np.float64] = inverse.T
    return whitening


def _energy(logits: FloatArray) -> NDArray[np.float64]:
    top = logits.max(axis=1).astype(np.float64)
    energy: NDArray[np.float64] = -(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
    return energy


def _mahalanobis(features: FloatArray, statistics: FeatureStatistics) -> NDArray[np.float64]:
    """From each of `features` float [N, D] to the nearest class: float64 [N]."""
    points = unit_rows(features).astype(np.float64) @ statistics.unit_whitening.astype(np.float64)
    centres = statistics.unit_centres.astype(np.float64)
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    nearest: NDArray[np.float64] = np.sqrt(np.maximum(0.0, squares.min(axis=1)))
    return nearest
