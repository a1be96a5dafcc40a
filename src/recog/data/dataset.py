"""What a data source gives: named samples with labels, one class map for all splits, and everything that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recog.bundle.reference import MAX_REFERENCE_IMAGES
from recog.core.config import did_you_mean
from recog.core.errors import DataError
from recog.core.images.decode import Readable
from recog.core.task import Task
from recog.core.text import listing, plural
from recog.evaluation.measures.task import TASK_MEASURES

Targets = NDArray[np.int64] | NDArray[np.float32]  # labels [N]; or, of multi-label data, zeros and ones [N, K]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled image. `name` is its path within the data, with '/', the same on every machine.

    `source` is a file, an array uint8 [H, W] or [H, W, C], or a member of an archive, which holds no open handle.
    Samples that share a `group` (a patient, a video) are never torn apart between splits.
    """

    name: str
    source: Path | NDArray[np.uint8] | Readable
    labels: tuple[int, ...]  # rising numbers of classes: exactly one, or, of a multi-label Dataset, 0 to K
    split: str | None = None
    group: str | None = None
    subfolder: str | None = None  # below the class folder, the first; of a list, the folder that the image lies in
    columns: tuple[tuple[str, str], ...] = ()  # (name, cell) of other columns of the list, such as a camera

    @property
    def label(self) -> int:
        """The one label. DataError where the image has none or several, as multi-label data may."""
        if len(self.labels) != 1:
            raise DataError(
                f"{self.name} has {plural(len(self.labels), 'label')} where exactly one was expected; "
                "of multi-label data, read `labels`."
            )
        return self.labels[0]


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Something in the data that is not used, and why."""

    name: str
    reason: str


NO_LABEL = "no label"  # what the reason of an Exclusion begins with, for a row of a list that has none


@dataclass(frozen=True, kw_only=True)
class Dataset:
    name: str
    layout: str  # what the source was recognised as, in words
    why: str = ""  # what that was seen by
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    task: Task = "multiclass"
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()  # what was understood or corrected while reading, for the user
    test_fraction: float | None = None  # the source's customary one, where it has one

    @property
    def given_splits(self) -> tuple[str, ...]:
        """The splits that the source itself names, in the order train, val, test."""
        found = {sample.split for sample in self.samples}
        return tuple(split for split in SPLITS if split in found)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Of the list of images, beyond path, labels and split, in its order."""
        return tuple(dict.fromkeys(name for sample in self.samples for name, _ in sample.columns))

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


def in_content_order(dataset: Dataset, hashes: Sequence[str]) -> Dataset:
    """The same data ordered by labels, then by `hashes[i]`, the content hash of sample i.

    Chance is counted by a sample's place, so that the same images make the same splits and the same model, whatever
    their names and whatever folder, list or archive holds them.
    """
    order = sorted(zip(dataset.samples, hashes, strict=True), key=lambda pair: (pair[0].labels, pair[1], pair[0].name))
    return replace(dataset, samples=tuple(sample for sample, _ in order))


def class_counts(samples: Iterable[Sample], num_classes: int) -> list[int]:
    """The images that carry each label; an image with several counts under each of them."""
    counts = Counter(label for sample in samples for label in sample.labels)
    return [counts[label] for label in range(num_classes)]


def targets_of(samples: Sequence[Sample], num_classes: int, task: Task) -> Targets:
    """Training targets of `samples`: labels int64 [N], or of multilabel data zeros and ones float32 [N, K]."""
    return TASK_MEASURES[task].targets([sample.labels for sample in samples], num_classes)


def describe_exclusions(dataset: Dataset, limit: int = 5) -> list[str]:
    """One line on what was left out, the first `limit` by name; no line where nothing was."""
    exclusions = dataset.exclusions
    if not exclusions:
        return []
    shown = "; ".join(f"{e.name} ({e.reason})" for e in exclusions[:limit])
    more = f"; and {len(exclusions) - limit} more" if len(exclusions) > limit else ""
    return [f"left out {len(exclusions)}: {shown}{more}"]


def class_map_gaps(dataset: Dataset) -> dict[str, list[str]]:
    """{split: the classes that other splits have and it lacks}, without the splits that lack none."""
    present = {split: _labels_in(dataset, split) for split in dataset.given_splits}
    everywhere = set().union(*present.values()) if present else set()
    gaps = {split: sorted(everywhere - labels) for split, labels in present.items()}
    return {split: [dataset.class_names[label] for label in labels] for split, labels in gaps.items() if labels}


def _labels_in(dataset: Dataset, split: str) -> set[int]:
    return {label for sample in dataset.subset(split) for label in sample.labels}


COMPLETE_SPLITS: Mapping[Task, tuple[str, ...]] = MappingProxyType(  # in which every class must occur
    {"multiclass": SPLITS, "multilabel": ("train",)}
)


def check_class_map(dataset: Dataset) -> None:
    """Raise DataError with the names where one given split lacks a class that another has.

    Of multi-label data, where train lacks it: elsewhere a label that no image shows is one that is truly absent.
    """
    for split, missing in class_map_gaps(dataset).items():
        if split not in COMPLETE_SPLITS[dataset.task]:
            continue
        own = [dataset.class_names[label] for label in sorted(_labels_in(dataset, split))]
        near = did_you_mean(missing[0], own) if len(missing) < len(dataset.class_names) else ""
        spelt = f"{near} " if near.startswith(" Did") else " "
        raise DataError(
            f"split '{split}' of {dataset.name} lacks {len(missing)} of {len(dataset.class_names)} classes: "
            f"{listing(missing, 10)}.{spelt}Every class must occur in every split, spelt alike: "
            "add the images or remove those classes everywhere."
        )


def check_trainable(dataset: Dataset) -> None:
    """Raise DataError unless there are two classes or more and each has an image in every split.

    Of multi-label data: unless each label has an image with it and one without it in train, where there is a train split,
    else in all.
    """
    if len(dataset.class_names) < 2:
        only = f"{dataset.name} has one {TASK_MEASURES[dataset.task].thing} only ('{dataset.class_names[0]}')"
        raise DataError(f"{only}{_ONE_CLASS[dataset.task]}")
    _CHECKS[dataset.task](dataset)


def _check_classes_present(dataset: Dataset) -> None:
    for split in dataset.given_splits:
        counts = class_counts(dataset.subset(split), len(dataset.class_names))
        missing = [name for name, n in zip(dataset.class_names, counts, strict=True) if n == 0]
        if missing:
            raise DataError(
                f"split '{split}' of {dataset.name} has no usable image of {len(missing)} of "
                f"{len(dataset.class_names)} classes: {listing(missing, 10)}. "
                "Every class must occur in every split: add images there or remove the class everywhere."
            )


def _check_labels_vary(dataset: Dataset) -> None:
    in_train = "train" in dataset.given_splits
    samples = dataset.subset("train") if in_train else dataset.samples
    where = f"split 'train' of {dataset.name}" if in_train else dataset.name
    counts = class_counts(samples, len(dataset.class_names))
    for what, constant in (("with", 0), ("without", len(samples))):
        names = [name for name, n in zip(dataset.class_names, counts, strict=True) if n == constant]
        if names:
            raise DataError(
                f"{where} has no usable image {what} {len(names)} of {len(dataset.class_names)} labels: "
                f"{listing(names, 10)}. Training a label needs images with it and images without it: add such "
                "images or remove the label."
            )


_ONE_CLASS: Mapping[Task, str] = MappingProxyType(
    {
        "multiclass": "; a classifier needs two or more. Add a folder with images of what it is not.",
        "multilabel": ". Make two classes of it: with and without.",
    }
)
_CHECKS: Mapping[Task, Callable[[Dataset], None]] = MappingProxyType(
    {"multiclass": _check_classes_present, "multilabel": _check_labels_vary}
)


def labels_without_images(dataset: Dataset) -> dict[str, list[str]]:
    """{split: labels that none of its images, or all of them, show}: there the label cannot be measured.

    Without the splits in which every class must occur, which other checks look at.
    """
    found = {}
    for split in (split for split in dataset.given_splits if split not in COMPLETE_SPLITS[dataset.task]):
        samples = dataset.subset(split)
        counts = class_counts(samples, len(dataset.class_names))
        found[split] = [name for name, n in zip(dataset.class_names, counts, strict=True) if n in (0, len(samples))]
    return {split: names for split, names in found.items() if names}


def describe_unmeasurable(dataset: Dataset) -> list[str]:
    """One line for each split in which a label cannot be measured; no line where all can."""
    return [
        f"{split} cannot measure {len(names)} of {len(dataset.class_names)} labels, as no image there has them, or all have: "
        f"{listing(names, 10)}"
        for split, names in labels_without_images(dataset).items()
    ]


def choose_reference(labels: Sequence[int], limit: int = MAX_REFERENCE_IMAGES) -> list[int]:
    """Indices of up to `limit` samples, the classes in turn, each class's samples in order."""
    seen: dict[int, int] = {}
    ranked = []
    for i, label in enumerate(labels):
        ranked.append((seen.get(label, 0), label, i))
        seen[label] = seen.get(label, 0) + 1
    return [i for _, _, i in sorted(ranked)[:limit]]
