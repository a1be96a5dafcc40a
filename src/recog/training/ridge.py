"""A linear head by ridge regression on one-hot labels, and its answers out of fold in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.task import task_of
from recog.training.config import HeadConfig
from recog.training.head import HeadData, HeadSpec, LinearHead, cross_validate, deal_repeats, fit_heads

_Matrix = NDArray[np.float64]
SCALE = 10.0  # from answers, about 0 to 1, to logits: near what calibration finds, which refines it
_TINY = 1e-10  # of the largest eigenvalue: below, a direction is rounding


MIN_STD_SHARE = 0.3  # of the mean deviation


def floored(std: _Matrix) -> _Matrix:
    """Deviations [D], none of them far below the others: a feature that hardly varies here may vary a lot in other images.

    Divided by its own deviation it would outweigh all others there, which answers out of fold do not show.
    """
    found: _Matrix = np.maximum(std, MIN_STD_SHARE * std.mean())
    return found


@dataclass(frozen=True, kw_only=True)
class _Centred:
    """Standardised features and `_is_class` less their means, each row times the root of its weight."""

    features: _Matrix  # [N, D]
    is_class: _Matrix  # [N, K]
    roots: _Matrix  # [N], of the weights
    mean: _Matrix  # [D]
    std: _Matrix
    shares: _Matrix  # [K], the weighted means of is_class

    @classmethod
    def of(cls, data: HeadData, num_classes: int) -> _Centred:
        features = data.features
        is_class = _is_class(data, num_classes)
        per_image = np.ones(len(features)) if data.weights is None else is_class @ data.weights
        mean, std = features.mean(axis=0, dtype=np.float64), floored(features.std(axis=0, dtype=np.float64)) + 1e-6
        standard = (features - mean) / std
        centre = per_image @ standard / per_image.sum()
        shares = per_image @ is_class / per_image.sum()
        roots = np.sqrt(per_image)
        return cls(
            features=roots[:, None] * (standard - centre),
            is_class=roots[:, None] * (is_class - shares),
            roots=roots,
            mean=mean + centre * std,
            std=std,
            shares=shares,
        )

    def penalty(self, l2: float) -> float:
        return l2 * float(self.roots @ self.roots)


def _is_class(images: HeadData, num_classes: int) -> _Matrix:
    """1 where an image has a class and 0 elsewhere, [N, K]."""
    return task_of(images.targets).is_class(images.targets, len(images.targets), num_classes).astype(np.float64)


def fit_ridge(images: HeadData, spec: HeadSpec, *, num_classes: int) -> LinearHead:
    """The head with the least squared error to the classes of `images` as zeros and ones, one or several for each.

    `spec.l2` weighs the squared weights against the mean squared error on standardised features, the bias free. The answers
    times SCALE are the logits. `images.weights` are what an image of each class counts, where it has one.
    """
    data = _Centred.of(images, num_classes)
    num_images, num_features = data.features.shape
    if num_images <= num_features:
        gram = data.features @ data.features.T
        gram[np.diag_indices(num_images)] += data.penalty(spec.l2)
        coefficients = data.features.T @ np.linalg.solve(gram, data.is_class)
    else:
        gram = data.features.T @ data.features
        gram[np.diag_indices(num_features)] += data.penalty(spec.l2)
        coefficients = np.linalg.solve(gram, data.features.T @ data.is_class)
    weight = SCALE * coefficients.T / data.std
    bias = SCALE * data.shares - weight @ data.mean
    return LinearHead(
        l2=spec.l2,
        method="ridge",
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def fit_as(spec: HeadSpec, images: HeadData, config: HeadConfig, *, num_classes: int) -> LinearHead:
    """The head of `spec`, which may be another head, fitted on `images`."""
    if spec.method == "ridge":
        return fit_ridge(images, spec, num_classes=num_classes)
    chosen = replace(config, l2=(spec.l2,))
    (head,) = fit_heads(images.features, images.targets, chosen, num_classes=num_classes, weights=images.weights)
    return head


def answer_out_of_fold(
    spec: HeadSpec, images: HeadData, config: HeadConfig, *, num_classes: int, seed: int
) -> NDArray[np.float32]:
    """Logits float32 [N, K] of each image by a head of `spec` that was fitted without its fold."""
    if spec.method == "ridge":
        folds = deal_repeats(images, num_classes=num_classes, seed=seed, num_repeats=1)
        (answers,) = ridge_out_of_fold(images, (spec.l2,), folds, num_classes=num_classes)
        logits: NDArray[np.float32] = answers[0].astype(np.float32)
        return logits
    chosen = replace(config, l2=(spec.l2,))
    found: NDArray[np.float32] = cross_validate(images, chosen, num_classes=num_classes, seed=seed, num_repeats=1)[0, 0]
    return found


def ridge_out_of_fold(
    images: HeadData, strengths: Sequence[float], folds: Sequence[NDArray[np.int64]], *, num_classes: int
) -> Iterator[NDArray[np.float64]]:
    """Per strength the logits float64 [R, N, K] of each image by the ridge fitted without its fold, for R lists of folds [N].

    In closed form from one decomposition: with the hat matrix H and the residuals r of the fit to all, the residuals of fold F
    without it are (I - H_FF)^-1 r_F; Cook and Weisberg (1982), section 2.2. Standardisation and penalty are those of all images.
    """
    data = _Centred.of(images, num_classes)
    basis, squares = _left_vectors(data.features)
    targets, roots = basis.T @ data.is_class, data.roots
    constant = roots / np.sqrt(roots @ roots)  # the bias has a part in the hat matrix as well
    one_hot = _is_class(images, num_classes)
    for l2 in strengths:
        kept = squares / (squares + data.penalty(l2))
        residuals = data.is_class - basis @ (kept[:, None] * targets)
        answers = np.zeros((len(folds), *one_hot.shape))
        for repeat, fold_of in enumerate(folds):
            for fold in np.unique(fold_of):
                rows = np.flatnonzero(fold_of == fold)
                hat = (basis[rows] * kept) @ basis[rows].T + np.outer(constant[rows], constant[rows])
                left_out = np.linalg.solve(np.eye(len(rows)) - hat, residuals[rows])
                answers[repeat, rows] = SCALE * (one_hot[rows] - left_out / roots[rows, None])
        yield answers


def _left_vectors(rows: _Matrix) -> tuple[_Matrix, _Matrix]:
    """The left singular vectors [N, r] of `rows` [N, D] and the squares of their singular values [r]."""
    num_images, num_features = rows.shape
    if num_images <= num_features:
        squares, basis = np.linalg.eigh(rows @ rows.T)
        keep = squares > _TINY * squares[-1]
        return basis[:, keep], squares[keep]
    squares, directions = np.linalg.eigh(rows.T @ rows)
    keep = squares > _TINY * squares[-1]
    return rows @ (directions[:, keep] / np.sqrt(squares[keep])), squares[keep]
