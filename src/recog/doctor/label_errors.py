"""Labels that look wrong, by three views of the features that do not trust the label; and confusable classes.

Where an image has several labels, each of them is judged as present or absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.special import logsumexp
from scipy.stats import rankdata

from recog.doctor.features import NUM_NEIGHBOURS, Neighbours, nearest_neighbours, standardised
from recog.evaluation.measures.probability import auroc
from recog.training.head import HeadData, deal_repeats

# Strengths per feature, as the squared norm of a standardised image is their number. Out of fold the one with the least error is
# taken: of 800 images mostly the first, of 20,000 the third. In sample it is so strong that the fit cannot learn single labels
# by heart.
STRENGTHS, STRONGER_IN_SAMPLE = (1 / 700, 1 / 2000, 1 / 6000), 3.5
_SCALE = 6.0  # from scores of the ridge, about 0 to 1, to logits
MAX_ERRORS = 1.25  # of the neighbours, to those of the ridge out of fold; where they err more often, they do not count
_SHARPNESS = 8.0  # of the weight exp(s * cosine) of a neighbour
MIN_IMAGES = 2  # of a class, in different groups, to be judged
MANY_SUSPECTS = (
    0.12  # of the images; then the views are fitted again without them, as wrong labels of one kind support each other
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelEvidence:
    """Of N images. The fusion is the mean rank of the label's probability in two views and its margin among neighbours."""

    suspicion: NDArray[np.float64]  # [N] in [0, 1], 1 is the most suspicious; NaN where it could not be judged
    is_suspect: NDArray[np.bool_]  # [N], all three views prefer another class
    suggested: NDArray[np.int64]  # [N], the best class by the mean of the views
    preds: NDArray[np.int64]  # [N], the class out of fold, of the fit to all; -1 where it could not be judged


def judge_labels(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    neighbours: Neighbours,
    *,
    num_classes: int,
    seed: int = 0,
) -> LabelEvidence | None:
    """`features` [N, D] standardised, `labels` [N]; images of equal `groups` [N] do not vouch for each other.

    Classes with fewer than two groups are not judged; None where fewer than two classes remain. The margins are after
    Northcutt et al. (2021), "Confident Learning", JAIR 70; the kNN view after Zhu et al. (2022), "Detecting Corrupted Labels
    Without Training a Model to Predict", ICML.
    """
    judged = [label for label in range(num_classes) if _are_judgeable(labels, groups, [label])]
    if len(judged) < 2:
        return None
    rows = np.flatnonzero(np.isin(labels, judged))
    numbers = np.searchsorted(judged, labels[rows])
    is_class = labels[:, None] == judged
    ridge = Ridge.of(features if len(rows) == len(features) else features[rows])
    folds = _folds(HeadData(features=ridge.features, targets=numbers, groups=groups[rows]), len(judged), seed)
    views = _views(ridge, is_class[rows], _neighbour_shares(neighbours, is_class, groups)[rows], folds)
    margins = [_margins(view, numbers) for view in views]
    out_of_fold = views[0]
    trusted = np.ones(len(labels), dtype=bool)
    trusted[rows] = ~np.all([margin < 0 for margin in margins], axis=0)
    if trusted.mean() < 1 - MANY_SUSPECTS and _are_judgeable(labels[trusted], groups[trusted], judged):
        shares = _neighbour_shares(neighbours, is_class & trusted[:, None], groups)[rows]
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
        views = _views(ridge, is_class[rows], shares, folds, trusted[rows])
        margins = [_margins(view, numbers) for view in views]
    suspicion = np.full(len(labels), np.nan)
    suspicion[rows] = _suspicion(views, margins, numbers)
    is_suspect = np.zeros(len(labels), dtype=bool)
    is_suspect[rows] = np.all([margin < 0 for margin in margins], axis=0)
    suggested, preds = labels.copy(), np.full(len(labels), -1)
    together = np.sum([(view - view.mean()) / max(view.std(), 1e-12) for view in views], axis=0)
    suggested[rows] = np.array(judged)[together.argmax(axis=1)]
    preds[rows] = np.array(judged)[out_of_fold.argmax(axis=1)]
    return LabelEvidence(suspicion=suspicion, is_suspect=is_suspect, suggested=suggested, preds=preds)


def judge_features(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    num_classes: int,
    seed: int = 0,
) -> LabelEvidence | None:
    """`judge_labels` of features [N, D] as a network gives them. None also of fewer than three images."""
    if len(features) < 3:
        return None
    standard = standardised(features)
    (neighbours,) = (step for step in nearest_neighbours(standard, NUM_NEIGHBOURS) if isinstance(step, Neighbours))
    return judge_labels(standard, labels, groups, neighbours, num_classes=num_classes, seed=seed)


def prunable(evidence: LabelEvidence, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The suspects, bool [N], but for those of classes that would be left with fewer than two groups."""
    pruned = evidence.is_suspect.copy()
    for label in np.unique(labels):
        own = labels == label
        if len(np.unique(groups[own & ~pruned])) < MIN_IMAGES:
            pruned[own] = False
    return pruned


def _suspicion(
    views: Sequence[NDArray[np.floating]], margins: Sequence[NDArray[np.floating]], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean rank [N] in (0, 1] of the views that tell the labels about as well as the first one."""
    ranks = [rankdata(-log_probs(view, labels)) for view in views[:2]]
    errors, errors_of_neighbours = ((margin < 0).mean() for margin in (margins[0], margins[2]))
    if errors_of_neighbours <= MAX_ERRORS * errors + 0.02:
        ranks.append(rankdata(-margins[2]))
    found: NDArray[np.float64] = np.mean(ranks, axis=0) / len(labels)
    return found


def log_probs(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.floating]:
    """[N], the logarithm of the probability of `labels` [N] from scores [N, K] of a ridge regression."""
    logits = _SCALE * scores
    found: NDArray[np.floating] = logits[np.arange(len(labels)), labels] - logsumexp(logits, axis=1)
    return found


def _are_judgeable(labels: NDArray[np.int64], groups: NDArray[np.int64], classes: Sequence[int]) -> bool:
    return all(len(np.unique(groups[labels == label])) >= MIN_IMAGES for label in classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelSetEvidence:
    """Of N images with any number of K labels. A cell is a label of an image, present or absent."""

    suspicion: NDArray[
        np.float64
    ]  # [N, K] in [0, 1], 1 is the most suspicious of the label; NaN where it is not judged
    is_suspect: NDArray[np.bool_]  # [N, K], all three views prefer the opposite


MIN_AUROC = 0.8  # of a label, out of fold, in the labels as given; below, the features do not tell it


def judge_label_sets(
    features: NDArray[np.float32],
    is_label: NDArray[np.bool_],
    groups: NDArray[np.int64],
    neighbours: Neighbours,
    *,
    seed: int = 0,
) -> LabelSetEvidence:
    """As `judge_labels`, for images with the labels `is_label` [N, K].

    A view prefers the opposite of a cell where it does so with the label as frequent as it is, and also were it on half of the
    images: a rare label is not added for little, nor taken away for being rare. A label that fewer than two groups have, or
    lack, is not judged, nor one that the features do not tell.
    """
    suspicion, is_suspect = np.full(is_label.shape, np.nan), np.zeros(is_label.shape, dtype=bool)
    sides = [[len(np.unique(groups[column == side])) for side in (False, True)] for column in is_label.T]
    judged = np.flatnonzero(np.min(sides, axis=1) >= MIN_IMAGES)
    if not len(judged):
        return LabelSetEvidence(suspicion=suspicion, is_suspect=is_suspect)
    given = is_label[:, judged]
    data = HeadData(features=features, targets=given.astype(np.float32), groups=groups)
    folds = _folds(data, len(judged), seed)
    views = _views(Ridge.of(features), given, _neighbour_shares(neighbours, given, groups), folds)
    is_told = auroc(views[0], given) >= MIN_AUROC
    margins = [_cell_margins(view, given)[:, is_told] for view in views]
    told = judged[is_told]
    suspicion[:, told] = np.mean([rankdata(-margin, axis=0) for margin in margins], axis=0) / len(given)
    is_suspect[:, told] = np.all([margin < 0 for margin in margins], axis=0)
    return LabelSetEvidence(suspicion=suspicion, is_suspect=is_suspect)


def _cell_margins(scores: NDArray[np.floating], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far `scores` [N, K], about 1 where a label is present and 0 where not, are on the side of the label as given."""
    middle = [
        (column[present].mean() + column[~present].mean()) / 2
        for column, present in zip(scores.T, given.T, strict=True)
    ]
    bounds = np.where(given, np.minimum(0.5, middle), np.maximum(0.5, middle))
    found: NDArray[np.float64] = np.where(given, scores - bounds, bounds - scores)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Ridge:
    """Ridge regressions of classes as zeros and ones on parts of the same images, which share the products of all features.

    Without them, 20,000 images with five folds, fitted twice, take minutes.
    """

    features: NDArray[np.float32]  # [N, D] standardised
    products: NDArray[
        np.float32
    ]  # of the features over all images, [D, D]; of fewer images than features, of the images [N, N]

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Ridge:
        few = len(features) <= features.shape[1]
        return cls(features=features, products=features @ features.T if few else features.T @ features)

    def scores(
        self,
        is_class: NDArray[np.bool_],
        train: NDArray[np.bool_],
        test: NDArray[np.bool_],
        strengths: Sequence[float] = STRENGTHS,
    ) -> list[NDArray[np.float32]]:
        """Per strength float32 [number of `test`, K], about 1 for the classes [N, K] of an image: of the fit to `train` [N]."""
        targets = is_class.astype(np.float32)
        shares = targets[train].mean(axis=0)
        targets = np.where(train[:, None], targets - shares, 0)
        scale = self.features.shape[1] * int(train.sum())
        answers = self._by_images if len(self.products) == len(self.features) else self._by_features
        return [shares + each for each in answers(targets, train, test, [strength * scale for strength in strengths])]

    def _by_features(
        self,
        targets: NDArray[np.float32],
        train: NDArray[np.bool_],
        test: NDArray[np.bool_],
        penalties: Sequence[float],
    ) -> Iterator[NDArray[np.float32]]:
        left_out, num = self.features[~train], train.sum()
        mean = (self.features.sum(axis=0) - left_out.sum(axis=0)) / np.float32(num)
        products = self.products - left_out.T @ left_out - num * np.outer(mean, mean)
        for penalty in penalties:
            weights = _solve(products, self.features.T @ targets, penalty)
            yield self.features[test] @ weights - mean @ weights

    def _by_images(
        self,
        targets: NDArray[np.float32],
        train: NDArray[np.bool_],
        test: NDArray[np.bool_],
        penalties: Sequence[float],
    ) -> Iterator[NDArray[np.float32]]:
        products = self.products[np.ix_(train, train)]
        means, mean = products.mean(axis=0), products.mean()
        products += mean - means - means[:, None]
        others = self.products[np.ix_(test, train)]
        others += mean - others.mean(axis=1, keepdims=True) - means
        for penalty in penalties:
            yield others @ _solve(products, targets[train], penalty)


def _solve(products: NDArray[np.float32], right: NDArray[np.float32], penalty: float) -> NDArray[np.float32]:
    left = products.copy()
    left[np.diag_indices_from(left)] += np.float32(penalty)
    found: NDArray[np.float32] = solve(left, right, assume_a="pos", overwrite_a=True)
    return found


def out_of_fold(
    ridge: Ridge, is_class: NDArray[np.bool_], folds: NDArray[np.int64], trusted: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], float]:
    """Scores [N, K] of fits to the `trusted` images [N] of the other folds, and their strength, of the least error on them."""
    scores = np.zeros((len(STRENGTHS), *is_class.shape), dtype=np.float32)
    for fold in np.unique(folds):
        scores[:, folds == fold] = ridge.scores(is_class, trusted & (folds != fold), folds == fold)
    errors = [float(np.square(each[trusted] - is_class[trusted]).mean()) for each in scores]
    best = int(np.argmin(errors))
    return scores[best], STRENGTHS[best]


def _folds(data: HeadData, num_classes: int, seed: int) -> NDArray[np.int64]:
    (folds,) = deal_repeats(data, num_classes=num_classes, seed=seed, num_repeats=1)
    return folds


def _views(
    ridge: Ridge,
    is_class: NDArray[np.bool_],
    shares: NDArray[np.float64],
    folds: NDArray[np.int64],
    trusted: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.floating], ...]:
    """Scores [N, K] out of fold, of the fit in sample, and the `shares` of the neighbours; fitted on `trusted` images [N]."""
    everything = np.ones(len(folds), dtype=bool)
    trusted = everything if trusted is None else trusted
    scores, strength = out_of_fold(ridge, is_class, folds, trusted)
    (in_sample,) = ridge.scores(is_class, trusted, everything, (STRONGER_IN_SAMPLE * strength,))
    return scores, in_sample, shares


def _neighbour_shares(
    neighbours: Neighbours, is_class: NDArray[np.bool_], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weighted share of each class of `is_class` [N, K] among the nearest neighbours outside the image's own group."""
    weights = np.exp(_SHARPNESS * neighbours.cosines.astype(np.float64))
    weights[groups[neighbours.rows] == groups[:, None]] = 0
    shares = np.stack([(weights * column[neighbours.rows]).sum(axis=1) for column in is_class.T], axis=1)
    total: NDArray[np.float64] = shares / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return total


def _margins(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.floating]:
    """The score of the given label less the highest of another class, [N]."""
    rows = np.arange(len(labels))
    others = scores.copy()
    others[rows, labels] = -np.inf
    margins: NDArray[np.floating] = scores[rows, labels] - others.max(axis=1)
    return margins


MIN_CONFUSED = 0.35  # of the images of each of two classes
_MIN_JUDGED = 5


def confusable_classes(evidence: LabelEvidence, labels: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    """(a, b, share), a < b: at least 35 % of the images of each are taken for the other out of fold. `share`: the lower one."""
    found = []
    classes = [k for k in np.unique(labels).tolist() if ((labels == k) & (evidence.preds >= 0)).sum() >= _MIN_JUDGED]
    for place, a in enumerate(classes):
        for b in classes[place + 1 :]:
            share = min(float((evidence.preds[labels == x] == y).mean()) for x, y in ((a, b), (b, a)))
            if share >= MIN_CONFUSED:
                found.append((a, b, share))
    return sorted(found, key=lambda each: -each[2])
