"""Classes of unequal size: how unequal, what each weighs in the loss, or how an epoch draws so that all are seen alike."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import permutation, random_words

Balance = Literal["none", "weights", "sampler"]
WARN_FROM_RATIO = 10.0  # largest class to smallest; from here on 'auto' warns


def class_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """float64 [K]: N / (K * n_k), so that every class adds the same to the loss and the mean weight of an image is 1.

    King and Zeng (2001), as scikit-learn's class_weight='balanced'. `labels` int64 [N]; a class without images weighs 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, len(labels) / (num_classes * np.maximum(counts, 1)), 0.0)


def imbalance_ratio(labels: NDArray[np.int64], num_classes: int) -> float:
    """Images of the largest class over those of the smallest that has any."""
    counts = np.bincount(labels, minlength=num_classes)
    return float(counts.max() / counts[counts > 0].min())


def balanced_draws(labels: NDArray[np.int64], num_classes: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The draws of an epoch, int64 [N] in random order, with N / K of each class, counts differing by 1 at most.

    A small class is gone through again and again: the c-th time, image i is draw i + c * N, so that each time it is
    augmented by coins of its own. Of a large class, another random part is drawn each epoch.
    """
    size = len(labels)
    words = random_words(seed, epoch, np.arange(size), "balance", 1)[:, 0]
    present = [k for k in range(num_classes) if (labels == k).any()]
    quota, rest = divmod(size, len(present))
    first_extra = permutation(seed, epoch, len(present), "balance rest")[:rest]
    draws = []
    for number, k in enumerate(present):
        members = np.flatnonzero(labels == k)
        members = members[np.argsort(words[members], kind="stable")]
        turns = np.arange(quota + int(number in first_extra))
        draws.append(members[turns % len(members)] + turns // len(members) * size)
    together = np.concatenate(draws)
    return together[permutation(seed, epoch, size)]
