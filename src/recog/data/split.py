"""Who trains and who tests: seeded, stratified by class or by every label, identical files kept together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from recog.core.chance import random_words
from recog.core.errors import ConfigError, DataError
from recog.core.task import Task
from recog.data.dataset import Dataset, class_counts
from recog.data.stratify import iterative_parts, whole_shares
from recog.evaluation.measures.task import TASK_MEASURES


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    val_fraction: float = 0.15  # of what the source does not give as test
    test_fraction: float = 0.15  # of all, where the source gives no test and no val

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise ConfigError(f"split.{name} is {value}; it must be above 0 and below 0.5 (0.15 is usual).")


def split_dataset(dataset: Dataset, config: SplitConfig, *, seed: int, groups: Sequence[str]) -> Dataset:
    """Give every sample a split. What the source says stands; what it lacks is carved out by chance.

    train and test given: val is carved from train. train and val given: no test, and val's number is called val.
    Nothing given: train, val and test are carved. `groups[i]` names the group of sample i; a group is never torn apart
    (`join_groups` makes it of the content hashes, which keep identical files together, and the user's own groups).
    Raises DataError where a class is too small.
    """
    given = dataset.given_splits
    if "train" in given and "val" in given:
        return dataset
    if given in (("test",), ("val",), ("val", "test")):
        raise DataError(f"{dataset.name} has {' and '.join(given)} but no train folder; training needs one.")
    if "train" in given:
        pool = [i for i, sample in enumerate(dataset.samples) if sample.split == "train"]
        fractions = {"train": 1 - config.val_fraction, "val": config.val_fraction}
    else:
        pool = list(range(len(dataset.samples)))
        test, val = config.test_fraction, config.val_fraction
        fractions = {"train": 1 - val - test, "val": val, "test": test}
    _check_class_sizes(dataset, pool, groups, list(fractions))
    own_groups = [groups[i] for i in pool]
    labels = [dataset.samples[i].labels for i in pool]
    parts = _PARTS[dataset.task](labels, own_groups, list(fractions.values()), seed=seed)
    chosen = [list(fractions)[part] for part in parts]
    splits = [sample.split or "" for sample in dataset.samples]
    for i, split in zip(pool, chosen, strict=True):
        splits[i] = split
    return dataset.with_splits(splits)


def join_groups(*keys: Sequence[str | None]) -> list[str]:
    """One group per sample such that samples that share a key in any of `keys` share their group; None shares nothing.

    A group is named for the number of its first member, so equal data in equal order give equal groups.
    """
    num_samples = len(keys[0])
    parents = list(range(num_samples))

    def root_of(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for column in keys:
        first: dict[str, int] = {}
        for i, key in enumerate(column):
            if key is not None:
                a, b = root_of(first.setdefault(key, i)), root_of(i)
                parents[max(a, b)] = min(a, b)
    return [str(root_of(i)) for i in range(num_samples)]


def _check_class_sizes(dataset: Dataset, pool: list[int], groups: Sequence[str], splits: list[str]) -> None:
    counts = class_counts((dataset.samples[i] for i in pool), len(dataset.class_names))
    distinct = Counter(k for k, _ in {(k, groups[i]) for i in pool for k in dataset.samples[i].labels})
    what = TASK_MEASURES[dataset.task].thing
    for label, (name, count) in enumerate(zip(dataset.class_names, counts, strict=True)):
        if count == 0:
            raise DataError(f"{what} '{name}' of {dataset.name} has no usable image. Add images or remove the folder.")
        if distinct[label] < len(splits):
            images = f"{count} image{'s' * (count > 1)}"
            if distinct[label] < count:
                images += f", of which {distinct[label]} differ{'s' * (distinct[label] == 1)}"
            raise DataError(
                f"{what} '{name}' of {dataset.name} has {images}; at least {len(splits)} are needed "
                f"to put one into each of {', '.join(splits)}. Add images or remove the {what}."
            )


def _class_parts(
    labels: Sequence[tuple[int, ...]], groups: Sequence[str], fractions: Sequence[float], *, seed: int
) -> list[int]:
    """A part per item: the larger groups first, then in random order, each to the part that lacks most of its classes."""
    lacking = {label: whole_shares(n, fractions) for label, n in Counter(labels).items()}
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    keys = random_words(seed, 0, np.arange(len(labels)), "split", 1)[:, 0]
    order = sorted(members.values(), key=lambda group: (-len(group), keys[group[0]], group[0]))
    parts = [0] * len(labels)
    for together in order:
        need = [sum(lacking[labels[i]][part] for i in together) for part in range(len(fractions))]
        best = int(np.argmax(need))
        for i in together:
            parts[i] = best
            lacking[labels[i]][best] -= 1
    return parts


_PARTS: Mapping[Task, Callable[..., Iterable[int]]] = MappingProxyType(
    {"multiclass": _class_parts, "multilabel": iterative_parts}
)
