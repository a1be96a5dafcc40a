"""Few images: repeated stratified cross-validation of heads on frozen features; each image is held out once a repeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import random_words
from recog.core.errors import DataError
from recog.data.stratify import iterative_parts
from recog.training.head import HeadConfig, fit_heads

NUM_FOLDS = 5
NUM_REPEATS = 4
FEW_IMAGES = 20  # per class: below this, one validation split says little


@dataclass(frozen=True, kw_only=True)
class FewImages:
    """What cross-validation holds out: targets as of `fit_heads`, and groups int64 [N], whose members are never parted."""

    features: NDArray[np.float32]  # [N, D]
    targets: NDArray[np.int64] | NDArray[np.float32]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None  # of the loss: [N], multi-label [K]

    def smallest(self, num_classes: int) -> int:
        """Groups with the class, or the label, that has fewest."""
        if self.targets.ndim == 2:
            return min(len(set(self.groups[self.targets[:, k] == 1].tolist())) for k in range(num_classes))
        return min(len(set(self.groups[self.targets == k].tolist())) for k in range(num_classes))


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """One L2 strength over all repeats; every image is held out once in each."""

    l2: float
    logits: NDArray[np.float32]  # [R, N, K], of each image by the head that had not seen it
    num_folds: int


def cross_validate(
    data: FewImages, config: HeadConfig, *, num_classes: int, seed: int, num_repeats: int = NUM_REPEATS
) -> list[CrossValidation]:
    """Every strength of `config`, from the strongest to the weakest. DataError where a class has fewer than two groups."""
    num_folds = min(NUM_FOLDS, data.smallest(num_classes))
    if num_folds < 2:
        raise DataError("a class has one image only; cross-validation needs two or more of each. Add images.")
    strengths = sorted(config.l2, reverse=True)
    logits = np.zeros((len(strengths), num_repeats, len(data.targets), num_classes), dtype=np.float32)
    for repeat in range(num_repeats):
        folds = stratified_folds(data.targets, data.groups, num_folds, seed=seed, repeat=repeat)
        for fold in range(num_folds):
            train, held_out = folds != fold, folds == fold
            weights = data.weights if data.weights is None or data.targets.ndim == 2 else data.weights[train]
            heads = fit_heads(
                data.features[train], data.targets[train], config, num_classes=num_classes, weights=weights
            )
            for number, head in enumerate(heads):
                logits[number, repeat, held_out] = head(data.features[held_out])
    return [
        CrossValidation(l2=l2, logits=rows, num_folds=num_folds) for l2, rows in zip(strengths, logits, strict=True)
    ]


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
    if targets.ndim == 2:
        shown = [tuple(np.flatnonzero(row).tolist()) for row in targets]
        shares = [1 / num_folds] * num_folds
        return iterative_parts(shown, groups.tolist(), shares, seed=seed, repeat=repeat, stream="folds")
    labels = targets.astype(np.int64)
    keys = random_words(seed, repeat, np.arange(len(labels)), "folds", 1)[:, 0]
    held = np.zeros((int(labels.max()) + 1, num_folds), dtype=np.int64)
    folds = np.zeros(len(labels), dtype=np.int64)
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(i)
    for together in sorted(members.values(), key=lambda rows: (-len(rows), keys[rows[0]], rows[0])):
        label = labels[together[0]]
        fold = int(np.lexsort((held.sum(axis=0), held[label]))[0])
        folds[together] = fold
        np.add.at(held[:, fold], labels[together], 1)
    return folds
