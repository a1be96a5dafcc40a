"""Shortcuts: facts about the files, not what they show, from which the class can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recog.doctor.findings import Shortcut
from recog.doctor.traits import Traits
from recog.evaluation.measures.probability import auroc, mean_of_defined
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
MIN_IMAGES = 20  # of a class that is warned about; of fewer, the AUROC may be chance
_NUM_FOLDS, _MAX_BINS, _IMAGES_PER_BIN = 5, 10, 10


def find_shortcuts(
    traits: Sequence[Traits], labels: NDArray[np.int64], groups: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[Shortcut, ...]:
    """One per fact that varies, the most telling first; classes of under 20 images are not counted."""
    sizes = np.bincount(labels, minlength=len(class_names))
    large = np.flatnonzero(sizes >= MIN_IMAGES)
    if len(large) < 2:
        return ()
    kept = np.isin(labels, large)
    numbers = np.searchsorted(large, labels[kept])
    folds = stratified_folds(numbers, groups[kept], _NUM_FOLDS, seed=0, repeat=0)
    found = []
    for fact, value_of in FACTS.items():
        values = np.array([value_of(each) for each, keep in zip(traits, kept, strict=True) if keep])
        if len(np.unique(values)) == 1:
            continue
        by_class = fact_auroc(values, numbers, folds, num_classes=len(large))
        worst = int(np.nanargmax(by_class))
        found.append(
            Shortcut(
                fact=fact,
                auroc=mean_of_defined(by_class),
                worst_auroc=float(by_class[worst]),
                worst_class=class_names[int(large[worst])],
            )
        )
    return tuple(sorted(found, key=lambda shortcut: -shortcut.worst_auroc))


def fact_auroc(
    values: NDArray[np.generic], labels: NDArray[np.int64], folds: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.float64]:
    """Per class, float64 [K]: the AUROC of telling it from the others by one fact, out of fold.

    The fact is cut into bins of equal counts, texts into their values, and an image gets its bin's share of each class among the
    images of the other folds, with one image of each class added to every bin (Laplace).
    """
    bins = _bins(values)
    scores = np.zeros((len(labels), num_classes))
    for fold in np.unique(folds):
        train = folds != fold
        counts = np.zeros((int(bins.max()) + 1, num_classes))
        np.add.at(counts, (bins[train], labels[train]), 1)
        prior = np.bincount(labels[train], minlength=num_classes) / train.sum()
        shares = (counts + num_classes * prior) / (counts.sum(axis=1, keepdims=True) + num_classes)
        scores[folds == fold] = shares[bins[folds == fold]] / np.maximum(prior, 1e-12)
    return auroc(scores, labels[:, None] == np.arange(num_classes))


def _bins(values: NDArray[np.generic]) -> NDArray[np.int64]:
    distinct, numbers = np.unique(values, return_inverse=True)
    num_bins = int(np.clip(len(values) // _IMAGES_PER_BIN, 2, _MAX_BINS))
    if len(distinct) <= num_bins or values.dtype.kind in "US":
        return np.asarray(numbers, dtype=np.int64)
    edges = np.unique(np.quantile(values.astype(np.float64), np.arange(1, num_bins) / num_bins))
    found: NDArray[np.int64] = np.searchsorted(edges, values.astype(np.float64), side="right").astype(np.int64)
    return found
