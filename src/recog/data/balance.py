"""Classes of unequal size: imbalance, class weights in the loss, or balanced sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import permutation, random_words
from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.core.task import Task
from recog.data.dataset import Dataset, Targets, class_counts
from recog.evaluation.measures.task import task_of

Balance = Literal["auto", "none", "weights", "sampler"]  # auto: none, with a warning from 10:1 on
WARN_FROM_RATIO = 10.0  # largest class to smallest; from here on 'auto' warns


def class_weights(counts: NDArray[np.int64], num_images: int) -> NDArray[np.float64]:
    """float64 [K]: N / (K * n_k), so that every class adds the same to the loss and the mean weight of an image is 1.

    From the images of each class, `counts` [K], of N images. A class without images has weight 0. King and Zeng (2001), as
    scikit-learn's class_weight='balanced'.
    """
    return np.where(counts > 0, num_images / (len(counts) * np.maximum(counts, 1)), 0.0)


NO_SAMPLER = (
    "balance is 'sampler', which draws every class equally often; an image with several labels cannot be drawn for one "
    "without the others. Use --balance weights, which weighs each label's images with it against those without."
)
_HAS_SAMPLER: Mapping[Task, bool] = MappingProxyType({"multiclass": True, "multilabel": False})


def check_sampler(task: Task) -> None:
    """ConfigError where images of `task` cannot be drawn class by class."""
    if not _HAS_SAMPLER[task]:
        raise ConfigError(NO_SAMPLER)


def positive_weights(counts: NDArray[np.int64], num_images: int) -> NDArray[np.float64]:
    """float64 [K]: images without the label to images with it, `counts` [K] of N images, so that both count alike in its loss.

    As torch's pos_weight. A label without images has weight 1.
    """
    return np.where(counts > 0, (num_images - counts) / np.maximum(counts, 1), 1.0)


def class_sizes(targets: Targets, num_classes: int) -> NDArray[np.int64]:
    """Images of each class, or with each label: int64 [K]. `targets` are labels [N], or zeros and ones [N, K]."""
    return np.asarray(task_of(targets).is_class(targets, len(targets), num_classes).sum(axis=0))


def loss_weights(targets: Targets, num_classes: int) -> NDArray[np.float64]:
    """What balances a loss, float64 [K]: the weight of each class's images, or of the images with each label."""
    return _WEIGHTS[task_of(targets).task](class_sizes(targets, num_classes), len(targets))


def class_factors(given: Mapping[str, float], class_names: Sequence[str]) -> NDArray[np.float64] | None:
    """How often an image of each class counts, float64 [K], by the user's own weights; None without such.

    ConfigError where one is for no class.
    """
    unknown = next((name for name in given if name not in class_names), None)
    if unknown is not None:
        raise ConfigError(
            f"loss.class_weights.{unknown} is for no class of the data.{did_you_mean(unknown, class_names)}"
        )
    return np.array([given.get(name, 1.0) for name in class_names]) if given else None


def training_weights(
    targets: Targets, num_classes: int, *, is_balanced: bool, factors: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """The weights float64 [K] of the classes in the loss: those that balance it, times the user's own `factors`; None: all 1."""
    if not is_balanced:
        return factors
    balancing = loss_weights(targets, num_classes)
    return balancing if factors is None else balancing * factors


def describe_factors(given: Mapping[str, float]) -> list[str]:
    listed = ", ".join(f"{name}: {weight:g}" for name, weight in given.items())
    return [f"weights of classes: {listed}; images of other classes count 1"] if given else []


def describe_balance(dataset: Dataset, balance: Balance, *, by_steps: bool) -> list[str]:
    """What is done about unequal classes of the training split, or should be, in lines for a person.

    `by_steps`: whether the network learns by gradient steps, which can draw; a head is fitted to all images at once.
    """
    counts = class_counts(dataset.subset("train"), len(dataset.class_names))
    return _DESCRIBE[dataset.task](dataset, balance, counts, by_steps)


def _describe_class_balance(dataset: Dataset, balance: Balance, counts: list[int], by_steps: bool) -> list[str]:
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
            f"warning: {extremes}, so rare classes may be learned poorly; --balance weights or --balance sampler "
            "makes every class count alike"
        ]
    if balance == "none":
        return []
    if counts[largest] == counts[smallest]:
        return [
            f"balance by {balance}: every class has {counts[smallest]:,} training images; they count alike without it"
        ]
    weights = class_weights(np.array(counts), sum(counts))
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


def _describe_label_balance(dataset: Dataset, balance: Balance, counts: list[int], by_steps: bool) -> list[str]:
    if balance == "sampler":
        check_sampler(dataset.task)
    num_images, rarest = len(dataset.subset("train")), int(np.argmin(counts))
    ratio = (num_images - counts[rarest]) / max(1, counts[rarest])
    rare = (
        f"'{dataset.class_names[rarest]}' stands on {counts[rarest]:,} of {num_images:,} training images "
        f"(1 with to {ratio:.1f} without)"
    )
    if balance == "weights":
        return [
            f"balance by weights: {rare}; an image with it counts {ratio:.1f} times in its loss, and so each label's"
        ]
    if balance == "none" or ratio < WARN_FROM_RATIO:
        return []
    return [
        f"note: {rare}; the thresholds allow for it, and --balance weights makes both sides count alike in learning"
    ]


_WEIGHTS: Mapping[Task, Callable[[NDArray[np.int64], int], NDArray[np.float64]]] = MappingProxyType(
    {"multiclass": class_weights, "multilabel": positive_weights}
)
_DESCRIBE: Mapping[Task, Callable[[Dataset, Balance, list[int], bool], list[str]]] = MappingProxyType(
    {"multiclass": _describe_class_balance, "multilabel": _describe_label_balance}
)


def balanced_draws(labels: NDArray[np.int64], num_classes: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The draws of an epoch, int64 [N] in random order, with N / K of each class, counts differing by 1 at most.

    A small class is gone through again and again: the c-th time, image i is draw i + c * N, so that each time it is
    augmented by uniforms of its own. Of a large class, another random part is drawn each epoch.
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
