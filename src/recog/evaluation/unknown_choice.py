"""Which 'unknown' score suits a model: each class is left out once, and its images must look stranger than the others'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.ranking import auroc_of
from recog.evaluation.unknown import (
    MAX_DIMENSIONS,
    UNKNOWN_METHODS,
    FeatureStatistics,
    LeftOut,
    Moments,
    UnknownRule,
    fit_rule,
    fit_statistics,
    neighbours_for,
    unknown_scores,
)

MAX_LEFT_OUT = 10  # classes; of more, evenly spread ones


@dataclass(frozen=True, kw_only=True)
class KnownImages:
    """Training images, whose features a score may keep, and calibration images, which it is measured on."""

    train_features: NDArray[np.float32]  # [M, D]
    train_labels: NDArray[np.int64]  # [M]
    features: NDArray[np.float32]  # [N, D], of calibration
    logits: NDArray[np.float32]  # [N, K]
    labels: NDArray[np.int64]  # [N]
    data: str  # the calibration images, in words
    # class left out -> logits [N, K - 1] of a model that never saw it; None: its logit is dropped, which flatters a little
    refit: Callable[[int], NDArray[np.float32]] | None = None


def candidates_for(num_features: int, *, may_keep_images: bool) -> tuple[str, ...]:
    """The scores to compare: without a bank of single images where data are private, without Mahalanobis for long features."""
    left_out = (() if may_keep_images else ("knn",)) + (
        ("mahalanobis", "relative_mahalanobis") if num_features > MAX_DIMENSIONS else ()
    )
    return tuple(method for method in UNKNOWN_METHODS if method not in left_out)


def leave_classes_out(known: KnownImages, methods: tuple[str, ...]) -> tuple[tuple[LeftOut, ...], int]:
    """(a row per method, the highest mean AUROC first; how many classes were left out)."""
    aurocs: dict[str, list[float]] = {method: [] for method in methods}
    classes = _chosen_classes(known)
    measured = {"mahalanobis", "relative_mahalanobis"} & set(methods)
    moments = Moments.of(known.train_features, known.train_labels) if measured else None
    for k in classes:
        for method, scores in _scores_without(known, k, methods, moments).items():
            aurocs[method].append(auroc_of(scores, known.labels == k))
    if not classes:
        return (), 0
    rows = (
        LeftOut(method=method, mean_auroc=float(np.mean(values)), min_auroc=float(min(values)))
        for method, values in aurocs.items()
    )
    return tuple(sorted(rows, key=lambda row: -row.mean_auroc)), len(classes)


def fit_unknown(
    known: KnownImages, *, method: str = "auto", false_alarm_rate: float = 0.05, may_keep_images: bool = True
) -> tuple[UnknownRule, FeatureStatistics | None]:
    """The rule, and what features.safetensors must hold for it. 'auto' takes the score with the highest mean AUROC."""
    methods = candidates_for(known.features.shape[1], may_keep_images=may_keep_images)
    rows, num_left_out = leave_classes_out(known, methods)
    reason = "as asked for"
    if method == "auto":
        method, reason = _choose(rows, num_left_out)
        if rows and known.refit is None:
            reason += "; the features had seen them, which flatters"
    statistics = fit_statistics(method, known.train_features, known.train_labels)
    num_neighbours = neighbours_for(known.train_labels)
    rule = fit_rule(
        method,
        unknown_scores(method, known.logits, known.features, statistics, num_neighbours=num_neighbours),
        false_alarm_rate=false_alarm_rate,
        data=known.data,
        reason=reason,
        num_neighbours=num_neighbours if method == "knn" else 0,
    )
    rule = replace(rule, left_out=rows, num_left_out=num_left_out)
    return rule, statistics if rule.threshold is not None else None


def _choose(rows: tuple[LeftOut, ...], num_left_out: int) -> tuple[str, str]:
    if not rows:
        return "energy", "no class could be left out to compare the scores"
    best = rows[0]
    return (
        best.method,
        f"the highest AUROC, {best.mean_auroc:.3f} on average over {num_left_out} classes left out in turn",
    )


def _chosen_classes(known: KnownImages) -> list[int]:
    """Classes with calibration images that leave others behind, evenly spread over them where they are many."""
    present = np.unique(known.labels)
    trained = np.unique(known.train_labels)
    if len(present) < 2 or len(trained) < 2:
        return []
    places = np.unique(np.linspace(0, len(present) - 1, min(MAX_LEFT_OUT, len(present))).round().astype(np.int64))
    return [int(present[place]) for place in places]


def _scores_without(
    known: KnownImages, k: int, methods: tuple[str, ...], moments: Moments | None
) -> dict[str, NDArray[np.float64]]:
    """The calibration images' scores by a model that does not have class `k`; `moments` are those of all classes."""
    keep = known.train_labels != k
    features, labels = known.train_features[keep], known.train_labels[keep]
    logits = np.delete(known.logits, k, axis=1) if known.refit is None else known.refit(k)
    fitted = {method: fit_statistics(method, features, labels) for method in methods if method == "knn"}
    if moments is not None:
        place = int(np.searchsorted(np.unique(known.train_labels), k))
        rest = moments.without(place, known.train_features[~keep]) if not keep.all() else moments
        both = rest.statistics(relative=True)  # which has all that the plain distance needs too
        fitted |= {"mahalanobis": both, "relative_mahalanobis": both}
    num_neighbours = neighbours_for(labels)
    if logits.shape[1] < 2:  # of two classes one is left: its softmax is always sure, its energy less its logit
        logits = np.concatenate([logits, np.full_like(logits, -1e4)], axis=1)
    return {
        method: unknown_scores(method, logits, known.features, fitted.get(method), num_neighbours=num_neighbours)
        for method in methods
    }
