"""What a data source gives: named samples with labels, one class map for all splits, and everything that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.files import sha256_bytes, sha256_file

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled image. `name` is its path within the data, with '/', the same on every machine."""

    name: str
    source: Path | NDArray[np.uint8]
    label: int
    split: str | None = None

    def sha256(self) -> str:
        """Of the file's bytes, or of the array's bytes and shape."""
        if isinstance(self.source, Path):
            return sha256_file(self.source)
        return sha256_bytes(repr(self.source.shape).encode() + self.source.tobytes())


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Something in the data that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    name: str
    layout: str  # what the source was recognised as, in words
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    exclusions: tuple[Exclusion, ...] = ()
    test_fraction: float | None = None  # the source's customary one, where it has one
    mirror: bool = True  # whether a mirrored image keeps its label

    @property
    def given_splits(self) -> tuple[str, ...]:
        """The splits that the source itself names, in the order train, val, test."""
        found = {sample.split for sample in self.samples}
        return tuple(split for split in SPLITS if split in found)

    def subset(self, split: str) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.split == split)

    def with_splits(self, splits: Sequence[str]) -> Dataset:
        """The same data with `splits[i]` as the split of sample i."""
        samples = (replace(s, split=split) for s, split in zip(self.samples, splits, strict=True))
        return replace(self, samples=tuple(samples))

    def without(self, exclusions: Iterable[Exclusion]) -> Dataset:
        """The same data less the samples that `exclusions` name."""
        added = tuple(exclusions)
        names = {exclusion.name for exclusion in added}
        kept = tuple(sample for sample in self.samples if sample.name not in names)
        return replace(self, samples=kept, exclusions=self.exclusions + added)


def class_counts(samples: Iterable[Sample], num_classes: int) -> list[int]:
    counts = Counter(sample.label for sample in samples)
    return [counts[label] for label in range(num_classes)]


def describe_exclusions(dataset: Dataset, limit: int = 5) -> list[str]:
    """One line on what was left out, the first `limit` by name; no line where nothing was."""
    exclusions = dataset.exclusions
    if not exclusions:
        return []
    shown = "; ".join(f"{e.name} ({e.reason})" for e in exclusions[:limit])
    more = f"; and {len(exclusions) - limit} more" if len(exclusions) > limit else ""
    return [f"left out {len(exclusions)}: {shown}{more}"]


def check_trainable(dataset: Dataset) -> None:
    """Raise DataError unless there are two classes or more and each has an image in every split."""
    if len(dataset.class_names) < 2:
        raise DataError(
            f"{dataset.name} has one class only ('{dataset.class_names[0]}'); a classifier needs two or more. "
            "Add a folder with images of what it is not."
        )
    for split in dataset.given_splits:
        counts = class_counts(dataset.subset(split), len(dataset.class_names))
        missing = [name for name, n in zip(dataset.class_names, counts, strict=True) if n == 0]
        if missing:
            raise DataError(
                f"split '{split}' of {dataset.name} has no usable image of {len(missing)} of "
                f"{len(dataset.class_names)} classes: {', '.join(missing[:10])}. "
                "Every class must stand in every split: add images there or remove the class everywhere."
            )
