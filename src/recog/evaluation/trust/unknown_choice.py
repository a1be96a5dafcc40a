"""Which 'unknown' score suits a model: each class is left out once, and its images must look stranger than the others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recog.evaluation.measures.probability import auroc_of
from recog.evaluation.trust.unknown import (
    DISTANCE_METHODS,
    FEATURE_METHODS,
    MAX_DIMENSIONS,
    UNKNOWN_METHODS,
    FeatureStatistics,
    LeftOut,
    Moments,
    UnknownRule,
    fit_rule,
    fit_statistics,
    fit_weight,
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
    # class left out -> logits [N, K - 1] of a model that never saw it; None: its logit is dropped, slightly optimistic
    refit: Callable[[int], NDArray[np.float32]] | None = None
    view: FeatureStatistics = field(default_factory=FeatureStatistics)  # of the features, for the distances


def candidates_for(num_features: int, *, may_keep_images: bool) -> tuple[str, ...]:
    """The scores to compare: without a bank of single images where data are private, without Mahalanobis for long features."""
    left_out = (() if may_keep_images else ("knn",)) + (DISTANCE_METHODS if num_features > MAX_DIMENSIONS else ())
    return tuple(method for method in UNKNOWN_METHODS if method not in left_out)


def leave_classes_out(known: KnownImages, methods: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Per method its AUROC for each class left out in turn, float64 [C]; C is 0 where none can be."""
    classes = _chosen_classes(known)
    aurocs = {method: np.zeros(len(classes)) for method in methods}
    measured = set(DISTANCE_METHODS) & set(methods)
    moments = Moments.of(known.train_features, known.train_labels) if measured and classes else None
    for i, k in enumerate(classes):
        for method, scores in _scores_without(known, k, methods, moments).items():
            aurocs[method][i] = auroc_of(scores, known.labels == k)
    return aurocs


def choose_score(aurocs: Mapping[str, NDArray[np.float64]]) -> tuple[str, str]:
    """(method, why): the highest mean AUROC, or a score on features where that is not better than it by a standard error.

    A class left out is a near stranger. What is far from every class can have large logits all the same, and only a score on
    features sees that.
    """
    num_left_out = len(next(iter(aurocs.values())))
    if not num_left_out:
        return "energy", "no class could be left out to compare the scores"
    over = f"on average over {num_left_out} classes left out in turn"
    ranked = sorted(aurocs, key=lambda method: -aurocs[method].mean())
    best = ranked[0]
    for method in ranked:
        behind = aurocs[best] - aurocs[method]
        error = float(behind.std(ddof=1) / np.sqrt(num_left_out)) if num_left_out > 1 else 0.0
        if method in FEATURE_METHODS and behind.mean() <= error:
            if method == best:
                break
            return method, (
                f"its AUROC, {aurocs[method].mean():.3f} {over}, is within one standard error of the highest, and unlike "
                f"{best} it sees what is far from every class"
            )
    return best, f"the highest AUROC, {aurocs[best].mean():.3f} {over}"


def fit_unknown(
    known: KnownImages, *, method: str = "auto", false_alarm_rate: float = 0.05, may_keep_images: bool = True
) -> tuple[UnknownRule, FeatureStatistics | None]:
    """The rule, and what features.safetensors must hold for it. 'auto' is `choose_score`."""
    view = known.view
    known = replace(known, train_features=view.view(known.train_features), features=view.view(known.features))
    methods = candidates_for(known.features.shape[1], may_keep_images=may_keep_images)
    aurocs = leave_classes_out(known, methods)
    num_left_out = len(aurocs[methods[0]])
    rows = (
        LeftOut(method=name, mean_auroc=float(values.mean()), min_auroc=float(values.min()))
        for name, values in aurocs.items()
        if num_left_out
    )
    reason = "as requested"
    if method == "auto":
        method, reason = choose_score(aurocs)
        if num_left_out and known.refit is None:
            reason += "; these classes were part of training, so this AUROC is optimistic"
    statistics = fit_statistics(method, known.train_features, known.train_labels)
    num_neighbours = neighbours_for(known.train_labels) if method == "knn" else 0
    weight = 1.0 if method == "mahalanobis" else None
    if method == "energy_mahalanobis" and statistics is not None:
        weight = fit_weight(known.logits, known.features, statistics)
    scores = unknown_scores(
        method, known.logits, known.features, statistics, num_neighbours=num_neighbours, weight=weight
    )
    rule = fit_rule(
        method,
        scores,
        false_alarm_rate=false_alarm_rate,
        data=known.data,
        reason=reason,
        num_neighbours=num_neighbours,
        weight=weight,
    )
    best_first = tuple(sorted(rows, key=lambda row: -row.mean_auroc))
    rule = replace(rule, left_out=best_first, num_left_out=num_left_out)
    if rule.threshold is None or statistics is None:
        return rule, None
    return rule, replace(statistics, view_scale=view.view_scale, view_shift=view.view_shift)


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
    fitted = {"knn": fit_statistics("knn", features, labels)} if "knn" in methods else {}
    if logits.shape[1] < 2:  # of two classes one is left: its softmax is always sure, its energy less its logit
        logits = np.concatenate([logits, np.full_like(logits, -1e4)], axis=1)
    weight = None
    if moments is not None:
        place = int(np.searchsorted(np.unique(known.train_labels), k))
        rest = moments.without(place, known.train_features[~keep]) if not keep.all() else moments
        distance = rest.statistics()
        fitted |= dict.fromkeys(DISTANCE_METHODS, distance)
        others = known.labels != k
        weight = fit_weight(logits[others], known.features[others], distance)
    num_neighbours = neighbours_for(labels)
    return {
        method: unknown_scores(
            method, logits, known.features, fitted.get(method), num_neighbours=num_neighbours, weight=weight
        )
        for method in methods
    }
