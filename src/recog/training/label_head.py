"""A linear head for labels that do not exclude each other: one logistic regression per label, all fitted at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

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
