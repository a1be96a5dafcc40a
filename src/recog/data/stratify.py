"""Dealing images to parts, stratified by class or by every label; images of one group stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import random_words
from recog.core.task import Task


def _class_parts(
    labels: Sequence[tuple[int, ...]], groups: Sequence[str], fractions: Sequence[float], *, seed: int
) -> list[int]:
    """A part per item: the larger groups first, then in random order, each to the part that lacks most of its classes.

    Each class gets into every part, as far as its groups allow.
    """
    lacking = {label: whole_shares(n, fractions) for label, n in Counter(labels).items()}
    order = groups_in_order(groups, seed=seed)
    num_left = Counter(label for together in order for label in {labels[i] for i in together})
    without = {label: set(range(len(fractions))) for label in lacking}
    parts = [0] * len(labels)
    for together in order:
        need = [sum(lacking[labels[i]][part] for i in together) for part in range(len(fractions))]
        own = {labels[i] for i in together}
        # a few large groups would fill one part and leave none of their class for another
        urgent = {part for label in own if num_left[label] <= len(without[label]) for part in without[label]}
        best = max(sorted(urgent) or range(len(fractions)), key=need.__getitem__)
        for i in together:
            parts[i] = best
            lacking[labels[i]][best] -= 1
        for label in own:
            num_left[label] -= 1
            without[label].discard(best)
    return parts


def iterative_parts(
    labels: Sequence[tuple[int, ...]],
    groups: Sequence[Hashable],
    fractions: Sequence[float],
    *,
    seed: int,
    repeat: int = 0,
    stream: str = "split",
) -> NDArray[np.int64]:
    """The part 0..len(`fractions`) - 1 of each image, int64 [N]; images of one group are never parted.

    The rarest label first, as later ones leave more choice; each of its groups to the part that lacks most of that label, of
    equals to the one that lacks most of the group's pairs of labels, then most images. Images without labels fill up at the
    end. Chance is counted by (`seed`, `repeat`, place). Sechidis et al. (2011), ECML PKDD; pairs: Szymanski and Kajdanowicz
    (2017), PMLR 74.
    """
    order = groups_in_order(groups, seed=seed, repeat=repeat, stream=stream)
    lacking = _Lacking(labels, fractions)
    waiting = Counter(k for found in labels for k in found)
    parts = np.full(len(labels), -1, dtype=np.int64)
    while waiting:
        rarest = min(waiting, key=lambda label: (waiting[label], label))
        for together in order:
            if parts[together[0]] < 0 and any(rarest in labels[i] for i in together):
                parts[together] = lacking.take([labels[i] for i in together], rarest)
                waiting.subtract(k for i in together for k in labels[i] if k in waiting)
        del waiting[rarest]
    for together in order:
        if parts[together[0]] < 0:
            parts[together] = lacking.take([() for _ in together], None)
    return parts


def groups_in_order(
    groups: Sequence[Hashable], *, seed: int, repeat: int = 0, stream: str = "split"
) -> list[list[int]]:
    """The members of each group; the larger groups first, equal ones in an order by chance."""
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    keys = random_words(seed, repeat, np.arange(len(groups)), stream, 1)[:, 0]
    return sorted(members.values(), key=lambda group: (-len(group), keys[group[0]], group[0]))


class _Lacking:
    """What each part still lacks of every label, every pair of labels, and images."""

    def __init__(self, labels: Sequence[tuple[int, ...]], fractions: Sequence[float]) -> None:
        counts = Counter(k for found in labels for k in found)
        pairs = Counter(pair for found in labels for pair in combinations(found, 2))
        self.labels = {k: np.array(whole_shares(n, fractions)) for k, n in counts.items()}
        self.pairs = {pair: n * np.array(fractions) for pair, n in pairs.items()}
        self.images = np.array(whole_shares(len(labels), fractions))

    def take(self, together: Sequence[tuple[int, ...]], label: int | None) -> int:
        """The part that most lacks images with these labels, `label` above all; from now on it lacks them no more."""
        pairs = [pair for found in together for pair in combinations(found, 2)]
        need = [self.images]
        if label is not None:
            need += [sum((self.pairs[pair] for pair in pairs), np.zeros(len(self.images))), self.labels[label]]
        part = int(np.lexsort([-row for row in need])[0])
        self.images[part] -= len(together)
        for pair in pairs:
            self.pairs[pair][part] -= 1
        for k in (k for found in together for k in found):
            self.labels[k][part] -= 1
        return part


def whole_shares(count: int, fractions: Sequence[float]) -> list[int]:
    """`count` in whole parts near `fractions`, none empty where `count` allows: largest remainders, then the largest gives."""
    exact = [count * fraction for fraction in fractions]
    parts = [int(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: count - sum(parts)]:
        parts[i] += 1
    while 0 in parts and max(parts) > 1:
        parts[parts.index(max(parts))] -= 1
        parts[parts.index(0)] += 1
    return parts


PARTS: Mapping[Task, Callable[..., Iterable[int]]] = MappingProxyType(
    {"multiclass": _class_parts, "multilabel": iterative_parts}
)
