"""Classes of unequal size: how unequal, what each weighs in the loss, or how an epoch draws so that all are seen alike."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import permutation, random_words
from recog.data.dataset import Dataset, class_counts

Balance = Literal["auto", "none", "weights", "sampler"]  # auto: none, with a warning from 10:1 on
WARN_FROM_RATIO = 10.0  # largest class to smallest; from here on 'auto' warns


def class_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """float64 [K]: N / (K * n_k), so that every class adds the same to the loss and the mean weight of an image is 1.

    King and Zeng (2001), as scikit-learn's class_weight='balanced'. `labels` int64 [N]; a class without images weighs 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, len(labels) / (num_classes * np.maximum(counts, 1)), 0.0)


def describe_balance(dataset: Dataset, balance: Balance, *, by_steps: bool) -> list[str]:
    """What is done about unequal classes of the training split, or should be, in lines for a person.

    `by_steps`: whether the network learns by gradient steps, which can draw; a head is fitted to all images at once.
    """
    counts = class_counts(dataset.subset("train"), len(dataset.class_names))
    largest, smallest = int(np.argmax(counts)), int(np.argmin(counts))
    ratio = counts[largest] / max(1, counts[smallest])
    extremes = (
        f"'{dataset.class_names[largest]}' has {counts[largest]:,} training images and "
        f"'{dataset.class_names[smallest]}' {counts[smallest]:,} ({ratio:.1f}:1)"
    )
    if balance == "auto":
        if ratio < WARN_FROM_RATIO:
            return []
        return [
            f"warning: {extremes}, so rare classes may hardly be learnt; --balance weights or --balance sampler "
            "makes every class count alike"
        ]
    if balance == "none":
        return []
    labels = np.repeat(np.arange(len(counts)), counts)
    weights = class_weights(labels, len(counts))
    if balance == "weights" or not by_steps:
        instead = " (a head is fitted to all images at once, so the sampler's place is taken by weights)"
        return [
            f"balance by weights: {extremes}; an image counts {weights[smallest]:.2f} in the rarest class and "
            f"{weights[largest]:.2f} in the largest{instead if balance == 'sampler' else ''}"
        ]
    return [
        f"balance by sampler: {extremes}; every epoch draws about {sum(counts) // len(counts):,} of each class, those of "
        f"the rarest about {sum(counts) / len(counts) / max(1, counts[smallest]):.1f} times each"
    ]


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
