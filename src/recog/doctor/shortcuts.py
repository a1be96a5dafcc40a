"""Shortcuts: facts about the files, not what they show, from which a class or label can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recog.doctor.findings import Shortcut
from recog.doctor.traits import Traits
from recog.evaluation.measures.arrays import TargetArray
from recog.evaluation.measures.probability import auroc, mean_of_defined
from recog.evaluation.measures.task import task_of
from recog.training.head import stratified_folds

FACTS: Mapping[str, Callable[[Traits], float | str]] = MappingProxyType(
    {
        "width": lambda traits: traits.width,
        "height": lambda traits: traits.height,
        "aspect ratio": lambda traits: traits.width / traits.height,
        "format": lambda traits: traits.format,
        "file size": lambda traits: traits.num_bytes,
        "JPEG quality": lambda traits: -1 if traits.jpeg_quality is None else traits.jpeg_quality,
        "brightness": lambda traits: traits.brightness,
        "border": lambda traits: traits.border_share,
    }
)
WARNING_AUROC = 0.8
MIN_IMAGES = 20  # with, and without, a class that is warned about; of fewer, the AUROC may be chance
_NUM_FOLDS, _MAX_BINS, _IMAGES_PER_BIN = 5, 10, 10


def find_shortcuts(
    traits: Sequence[Traits], targets: TargetArray, groups: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[Shortcut, ...]:
    """One per fact that varies, the most telling first; classes that under 20 images have, or lack, are not counted.

    `targets` are labels int64 [N], or zeros and ones float32 [N, K] where an image has any number of labels.
    """
    is_class = task_of(targets).is_class(targets, len(targets), len(class_names))
    counts = is_class.sum(axis=0)
    judged = np.flatnonzero(np.minimum(counts, len(targets) - counts) >= MIN_IMAGES)
    if not len(judged):
        return ()
    folds = stratified_folds(targets, groups, _NUM_FOLDS, seed=0, repeat=0)
    found = []
    for fact, value_of in FACTS.items():
        values = np.array([value_of(each) for each in traits])
        if len(np.unique(values)) == 1:
            continue
        by_class = fact_auroc(values, is_class[:, judged], folds)
        worst = int(np.nanargmax(by_class))
        found.append(
            Shortcut(
                fact=fact,
                auroc=mean_of_defined(by_class),
                worst_auroc=float(by_class[worst]),
                worst_class=class_names[int(judged[worst])],
            )
        )
    return tuple(sorted(found, key=lambda shortcut: -shortcut.worst_auroc))


def fact_auroc(
    values: NDArray[np.generic], is_class: NDArray[np.bool_], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Per class of `is_class` [N, K], float64 [K]: the AUROC of telling the images that have it by one fact, out of fold.

    The fact is cut into bins of equal counts, texts into their values, and an image gets its bin's share of each class among the
    images of the other folds, with K average images added to every bin (after Laplace).
    """
    bins, num_classes = _bins(values), is_class.shape[1]
    scores = np.zeros(is_class.shape)
    for fold in np.unique(folds):
        train = folds != fold
        num_images = np.bincount(bins[train], minlength=int(bins.max()) + 1)
        counts = np.zeros((len(num_images), num_classes))
        np.add.at(counts, bins[train], is_class[train].astype(np.float64))
        prior = is_class[train].mean(axis=0)
        shares = (counts + num_classes * prior) / (num_images + num_classes)[:, None]
        scores[folds == fold] = shares[bins[folds == fold]] / np.maximum(prior, 1e-12)
    return auroc(scores, is_class)


def _bins(values: NDArray[np.generic]) -> NDArray[np.int64]:
    distinct, numbers = np.unique(values, return_inverse=True)
    num_bins = int(np.clip(len(values) // _IMAGES_PER_BIN, 2, _MAX_BINS))
    if len(distinct) <= num_bins or values.dtype.kind in "US":
        return np.asarray(numbers, dtype=np.int64)
    edges = np.unique(np.quantile(values.astype(np.float64), np.arange(1, num_bins) / num_bins))
    found: NDArray[np.int64] = np.searchsorted(edges, values.astype(np.float64), side="right").astype(np.int64)
    return found
