"""A linear head on frozen features: logistic regression, and its repeated stratified cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from recog.core.errors import DataError, TrainingError
from recog.core.task import Task
from recog.data.stratify import groups_in_order, iterative_parts
from recog.evaluation.measures.task import task_of
from recog.training.config import HeadConfig, HeadMethod


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """How a head is fitted."""

    l2: float
    method: HeadMethod = "logistic"


@dataclass(frozen=True, kw_only=True)
class LinearHead(HeadSpec):
    """logits = features @ weight.T + bias, on features as the network gives them."""

    weight: NDArray[np.float32]  # [K, D]
    bias: NDArray[np.float32]  # [K]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features float32 [N, D] -> logits float32 [N, K]."""
        return features @ self.weight.T + self.bias


_Fit = tuple[float, NDArray[np.float64], NDArray[np.float64]]  # l2, coefficients [K, D], intercepts [K]


def fit_heads(
    features: NDArray[np.float32],
    targets: NDArray[np.int64] | NDArray[np.float32],
    config: HeadConfig,
    *,
    num_classes: int,
    weights: NDArray[np.float64] | None = None,
) -> Iterator[LinearHead]:
    """A head per L2 strength of `config`, from the strongest to the weakest, each starting from the one before.

    `features` float32 [N, D] are standardised for the fit, and the standardisation is folded into the head. `l2` weighs
    half the squared weights against the mean loss per image, so that it means the same for any N.

    `targets` are labels int64 [N], or for labels that do not exclude each other, zeros and ones float32 [N, K]. `weights`
    float64 [K] are what an image of each class, or with each label, counts.
    """
    if not np.isfinite(features).all():
        raise TrainingError("the features are not finite; the pretrained weights do not fit this network.")
    # in float64: the mean of a constant feature must be the constant, or rounding over 1e-6 looks like a feature that counts
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-6
    standard = (features - mean) / std
    basis = _row_space(standard)
    rows = standard if basis is None else standard @ basis
    for l2, coefficients, intercepts in _FITS[task_of(targets).task](rows, targets, config, num_classes, weights):
        weight = (coefficients if basis is None else coefficients @ basis.T) / std
        bias = intercepts - weight @ mean
        yield LinearHead(l2=l2, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def _row_space(standard: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """An orthonormal basis [D, r] of the rows of `standard` [N, D], where they are fewer than the features; else None.

    The penalised weights lie in this space, so the fit in its r coordinates is the same, and faster.
    """
    if len(standard) >= standard.shape[1]:
        return None
    squares, vectors = np.linalg.eigh(standard @ standard.T)
    keep = squares > 1e-10 * squares[-1]
    return standard.T @ (vectors[:, keep] / np.sqrt(squares[keep])) if keep.any() and squares[-1] > 0 else None


MIN_SHARED_PRODUCTS = 1 << 25  # of a gradient: below, several threads wait for each other longer than they compute


def _suited_threads(rows: NDArray[np.float64], num_classes: int) -> AbstractContextManager[object]:
    """One thread for matrices that are small: two of them take up to ten times as long beside another program's load."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    is_small = rows.size * num_classes < MIN_SHARED_PRODUCTS
    limits: AbstractContextManager[object] = threadpool_limits(limits=1 if is_small else None, user_api="blas")
    return limits


def _fit_classes(
    standard: NDArray[np.float64],
    labels: NDArray[np.int64],
    config: HeadConfig,
    num_classes: int,
    weights: NDArray[np.float64] | None,
) -> Iterator[_Fit]:
    from sklearn.linear_model import LogisticRegression  # takes a second to import; only this recipe needs it

    model = LogisticRegression(max_iter=config.max_iterations, tol=1e-4, warm_start=True)
    for l2 in config.strengths:
        model.C = 1 / (l2 * len(labels))
        with warnings.catch_warnings(), _suited_threads(standard, num_classes):
            warnings.simplefilter("ignore")  # about stopping at max_iterations, which is early stopping
            model.fit(standard, labels, sample_weight=None if weights is None else weights[labels])
        yield l2, *_two_rows(model.coef_, model.intercept_, num_classes)


def _fit_labels(
    standard: NDArray[np.float64],
    targets: NDArray[np.float32],
    config: HeadConfig,
    num_classes: int,
    weights: NDArray[np.float64] | None,
) -> Iterator[_Fit]:
    found = None
    for l2 in config.strengths:
        with _suited_threads(standard, num_classes):
            found = fit_label_weights(
                standard, targets, l2, start=found, max_iterations=config.max_iterations, positive_weights=weights
            )
        yield l2, found[:, :-1], found[:, -1]


_FITS: Mapping[Task, Callable[..., Iterator[_Fit]]] = MappingProxyType(
    {"multiclass": _fit_classes, "multilabel": _fit_labels}
)


def _two_rows(
    coefficients: NDArray[np.float64], intercepts: NDArray[np.float64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """scikit-learn gives two classes one row z of log-odds; as two logits with the same softmax: -z/2 and z/2."""
    if num_classes > 2:
        return coefficients, intercepts
    return np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercepts, intercepts]) / 2


Weights = NDArray[np.float64]  # [K, D + 1], the bias last


def fit_label_weights(
    standard: NDArray[np.float64],
    targets: NDArray[np.float32],
    l2: float,
    *,
    start: Weights | None,
    max_iterations: int,
    positive_weights: NDArray[np.float64] | None = None,
) -> Weights:
    """Weights of K regressions on `standard` features float64 [N, D] for `targets` [N, K] of 0 and 1.

    Each minimises its mean loss per image and `l2` times half its squared weights, the bias free, as scikit-learn's
    LogisticRegression with C = 1 / (l2 N). `positive_weights` [K] weigh the images with a label against those without.
    A label that all or none of the images show has no regression: its weights are 0 and its bias the log-odds of its
    share with half an image added to either side (Haldane, 1956). L-BFGS: Liu and Nocedal (1989).
    """
    num_images, num_features = standard.shape
    num_shown = targets.sum(axis=0, dtype=np.float64)
    log_odds = np.log((num_shown + 0.5) / (num_images - num_shown + 0.5))
    weights = np.zeros((targets.shape[1], num_features + 1)) if start is None else start.copy()
    if start is None:
        weights[:, -1] = log_odds
    varies = (num_shown > 0) & (num_shown < num_images)
    weights[~varies] = 0.0
    weights[~varies, -1] = log_odds[~varies]
    if not varies.any():
        return weights
    of_positive = np.ones(int(varies.sum())) if positive_weights is None else positive_weights[varies]
    result = minimize(
        _objective(standard, targets[:, varies].astype(np.float64), of_positive, l2),
        weights[varies].ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": max_iterations, "gtol": 1e-5, "ftol": 1e-12},
    )
    weights[varies] = result.x.reshape(-1, num_features + 1)
    return weights


def _objective(
    standard: NDArray[np.float64], targets: NDArray[np.float64], of_positive: NDArray[np.float64], l2: float
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """(value, gradient) of the sum of the labels' own objectives, which share no weight."""
    num_images = len(standard)
    share = np.where(targets == 1, of_positive, 1.0) / num_images

    def evaluate(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(targets.shape[1], -1)
        logits = standard @ weights[:, :-1].T + weights[:, -1]
        loss = (share * np.logaddexp(0, np.where(targets == 1, -logits, logits))).sum()
        slopes = share * (expit(logits) - targets)
        gradient = np.empty_like(weights)
        gradient[:, :-1] = slopes.T @ standard + l2 * weights[:, :-1]
        gradient[:, -1] = slopes.sum(axis=0)
        return float(loss + 0.5 * l2 * np.square(weights[:, :-1]).sum()), gradient.ravel()

    return evaluate


NUM_FOLDS = 5
NUM_REPEATS = 4
FEW_IMAGES = 20  # per class: below this, one validation split is too noisy


@dataclass(frozen=True, kw_only=True)
class HeadData:
    """Features with targets as of `fit_heads`, and groups int64 [N], whose members stay in one fold."""

    features: NDArray[np.float32]  # [N, D]
    targets: NDArray[np.int64] | NDArray[np.float32]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None  # of the loss, [K]

    def part(self, rows: slice) -> HeadData:
        return replace(self, features=self.features[rows], targets=self.targets[rows], groups=self.groups[rows])

    def fewest_groups(self, num_classes: int) -> int:
        """Groups of the rarest class, or label."""
        is_class = task_of(self.targets).is_class(self.targets, len(self.targets), num_classes)
        return min(len(set(self.groups[column].tolist())) for column in is_class.T)

    def num_folds(self, num_classes: int) -> int:
        """Five, or as many as the rarest class, or label, has groups. DataError if it has fewer than two."""
        smallest = self.fewest_groups(num_classes)
        if smallest < 2:
            raise DataError("a class has one image only; cross-validation needs two or more of each. Add images.")
        return min(NUM_FOLDS, smallest)


def deal_repeats(data: HeadData, *, num_classes: int, seed: int, num_repeats: int) -> list[NDArray[np.int64]]:
    """A fold per image, int64 [N], for each repeat."""
    num_folds = data.num_folds(num_classes)
    return [
        stratified_folds(data.targets, data.groups, num_folds, seed=seed, repeat=repeat)
        for repeat in range(num_repeats)
    ]


def cross_validate(
    data: HeadData, config: HeadConfig, *, num_classes: int, seed: int, num_repeats: int = NUM_REPEATS
) -> NDArray[np.float32]:
    """Logits float32 [S, R, N, K] of each image by heads fitted without its fold: S strengths, strongest first, R repeats."""
    logits = np.zeros((len(config.l2), num_repeats, len(data.targets), num_classes), dtype=np.float32)
    dealt = deal_repeats(data, num_classes=num_classes, seed=seed, num_repeats=num_repeats)
    for repeat, folds in enumerate(dealt):
        for fold in range(int(folds.max()) + 1):
            train, held_out = folds != fold, folds == fold
            heads = fit_heads(
                data.features[train], data.targets[train], config, num_classes=num_classes, weights=data.weights
            )
            for number, head in enumerate(heads):
                logits[number, repeat, held_out] = head(data.features[held_out])
    return logits


def stratified_folds(
    targets: NDArray[np.int64] | NDArray[np.float32],
    groups: NDArray[np.int64],
    num_folds: int,
    *,
    seed: int,
    repeat: int,
) -> NDArray[np.int64]:
    """A fold per image, int64 [N]: groups in random order, each to the fold that has fewest of its class, then fewest at all.

    Where images have several labels, `iterative_parts` of every label.
    """
    return _FOLDS[task_of(targets).task](targets, groups, num_folds, seed, repeat)


def _label_folds(
    targets: NDArray[np.float32], groups: NDArray[np.int64], num_folds: int, seed: int, repeat: int
) -> NDArray[np.int64]:
    present = [tuple(np.flatnonzero(row).tolist()) for row in targets]
    shares = [1 / num_folds] * num_folds
    return iterative_parts(present, groups.tolist(), shares, seed=seed, repeat=repeat, stream="folds")


def _class_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], num_folds: int, seed: int, repeat: int
) -> NDArray[np.int64]:
    held = np.zeros((int(labels.max()) + 1, num_folds), dtype=np.int64)
    folds = np.zeros(len(labels), dtype=np.int64)
    for together in groups_in_order(groups.tolist(), seed=seed, repeat=repeat, stream="folds"):
        label = labels[together[0]]
        fold = int(np.lexsort((held.sum(axis=0), held[label]))[0])
        folds[together] = fold
        np.add.at(held[:, fold], labels[together], 1)
    return folds


_FOLDS: Mapping[Task, Callable[..., NDArray[np.int64]]] = MappingProxyType(
    {"multiclass": _class_folds, "multilabel": _label_folds}
)
