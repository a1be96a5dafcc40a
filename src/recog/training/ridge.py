"""A linear head by ridge regression on one-hot labels, and its answers out of fold in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.training.head import LinearHead

_Matrix = NDArray[np.float64]
_TINY = 1e-10  # of the largest eigenvalue: below, a direction is rounding


@dataclass(frozen=True, kw_only=True)
class _Centred:
    """Standardised features and one-hot labels less their means, each row times the root of its weight."""

    features: _Matrix  # [N, D]
    is_class: _Matrix  # [N, K]
    roots: _Matrix  # [N], of the weights
    mean: _Matrix  # [D]
    std: _Matrix
    shares: _Matrix  # [K], the weighted means of is_class

    @classmethod
    def of(
        cls, features: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int, weights: _Matrix | None
    ) -> _Centred:
        per_image = np.ones(len(labels)) if weights is None else weights[labels]
        mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-6
        standard = (features - mean) / std
        is_class = np.eye(num_classes)[labels]
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


def fit_ridge(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    l2: float,
    scale: float,
    num_classes: int,
    weights: _Matrix | None = None,
) -> LinearHead:
    """The head with the least squared error to one-hot `labels` int64 [N], from `features` float32 [N, D] as they are.

    `l2` weighs the squared weights against the mean squared error on standardised features, the bias free. Its answers are
    multiplied by `scale`, which makes logits of them. `weights` float64 [K] are what an image of each class counts.
    """
    data = _Centred.of(features, labels, num_classes, weights)
    num_images, num_features = data.features.shape
    if num_images <= num_features:
        gram = data.features @ data.features.T
        gram[np.diag_indices(num_images)] += data.penalty(l2)
        coefficients = data.features.T @ np.linalg.solve(gram, data.is_class)
    else:
        gram = data.features.T @ data.features
        gram[np.diag_indices(num_features)] += data.penalty(l2)
        coefficients = np.linalg.solve(gram, data.features.T @ data.is_class)
    weight = scale * coefficients.T / data.std
    bias = scale * data.shares - weight @ data.mean
    return LinearHead(
        l2=l2, weight=weight.astype(np.float32), bias=bias.astype(np.float32), method="ridge", scale=scale
    )


def ridge_out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    strengths: Sequence[float],
    folds: Sequence[NDArray[np.int64]],
    *,
    num_classes: int,
    weights: _Matrix | None = None,
) -> Iterator[NDArray[np.float64]]:
    """Per strength the answers float64 [R, N, K] to each image by the ridge fitted without its fold, for R lists of folds [N].

    In closed form from one decomposition: with the hat matrix H and the residuals r of the fit to all, the residuals of fold F
    without it are (I - H_FF)^-1 r_F; Cook and Weisberg (1982), section 2.2. Standardisation and penalty are those of all images.
    """
    data = _Centred.of(features, labels, num_classes, weights)
    basis, squares = _left_vectors(data.features)
    targets, roots = basis.T @ data.is_class, data.roots
    constant = roots / np.sqrt(roots @ roots)  # the bias has a part in the hat matrix as well
    one_hot = np.eye(num_classes)[labels]
    for l2 in strengths:
        kept = squares / (squares + data.penalty(l2))
        residuals = data.is_class - basis @ (kept[:, None] * targets)
        answers = np.zeros((len(folds), *one_hot.shape))
        for repeat, fold_of in enumerate(folds):
            for fold in np.unique(fold_of):
                rows = np.flatnonzero(fold_of == fold)
                hat = (basis[rows] * kept) @ basis[rows].T + np.outer(constant[rows], constant[rows])
                left_out = np.linalg.solve(np.eye(len(rows)) - hat, residuals[rows])
                answers[repeat, rows] = one_hot[rows] - left_out / roots[rows, None]
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
