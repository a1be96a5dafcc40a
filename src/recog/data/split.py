"""Who trains and who tests: seeded, stratified by class or by every label, identical files kept together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from recog.core.errors import ConfigError, DataError
from recog.core.task import Task
from recog.core.text import listing, plural
from recog.data.dataset import COMPLETE_SPLITS, SPLITS, Dataset, Exclusion, class_counts
from recog.data.stratify import PARTS, whole_shares
from recog.evaluation.measures.task import TASK_MEASURES

MIN_CROSS_VALIDATED = 2  # images of a class, so that one is held out while another is trained on
FEW_PER_CLASS = 6  # images of a class; of fewer, one each goes to val and test, and up to three to train
_CROSS_VALIDATE = "train a head on all images and estimate its accuracy by cross-validation: --split none"
MAX_TRAIN_LOSS = 0.1  # of all images, below the part of train that the fractions mean
NEW_SPLIT = (
    "the split is drawn from the images that are left, so few test images are those of a run with others; to compare such runs, "
    "keep test and val in folders of their own"
)


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    mode: Literal["auto", "none"] = "auto"  # none: nothing is carved; recipe head trains on all, and is cross-validated
    val_fraction: float = 0.15  # of what the source does not give as test
    test_fraction: float = 0.15  # of all, where the source gives no test and no val

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise ConfigError(f"split.{name} is {value}; it must be above 0 and below 0.5 (0.15 is usual).")
            if self.mode == "none" and value != getattr(SplitConfig, name):
                raise ConfigError(
                    f"split.{name} has no effect with --split none, which carves no split; remove one of them."
                )


def split_dataset(
    dataset: Dataset,
    config: SplitConfig,
    *,
    seed: int,
    groups: Sequence[str],
    known: Sequence[str | None] = (),
) -> Dataset:
    """Give every sample a split. Splits of the source are kept; missing ones are drawn at random.

    train and test given: val is carved from train. train and val given: no test, and val's number is called val.
    Nothing given: train, val and test are carved. With config.mode none, nothing is carved.

    `groups[i]` names the group of sample i; a group is never torn apart (`join_groups` makes it of the content hashes, which keep
    identical files together, and the user's own groups).

    `known[i]` is the split that sample i has in the run which this one continues, None for a new image. Where a split is carved,
    it stays there with its group, so that what the earlier run trained on is not tested on; the others are carved by chance.
    Raises DataError where a class is too small.
    """
    given = dataset.given_splits
    if given in (("test",), ("val",), ("val", "test")):
        raise DataError(f"{dataset.name} has {' and '.join(given)} but no train folder; training needs one.")
    fractions = _fractions(dataset, config)
    if not fractions:
        return dataset
    pool = [i for i, sample in enumerate(dataset.samples) if sample.split in (None, "train")]
    _check_class_sizes(dataset, pool, groups, list(fractions))
    stays = _known_splits(pool, groups, known, fractions)
    splits = [sample.split or "" for sample in dataset.samples]
    for i in pool:
        splits[i] = stays.get(groups[i], "")
    new = [i for i in pool if groups[i] not in stays]
    labels = [dataset.samples[i].labels for i in new]
    parts = PARTS[dataset.task](labels, [groups[i] for i in new], list(fractions.values()), seed=seed) if new else ()
    for i, part in zip(new, parts, strict=True):
        splits[i] = list(fractions)[part]
    split = dataset.with_splits(splits)
    if stays:
        _check_known_classes(split, list(fractions))
    return split


def _known_splits(
    pool: Sequence[int], groups: Sequence[str], known: Sequence[str | None], fractions: Mapping[str, float]
) -> dict[str, str]:
    """By group, the split that its images keep; of several the first, as train was used for fitting and val for selection."""
    found: dict[str, set[str]] = {}
    for i in pool if known else ():
        split = known[i]
        if split is not None and split in fractions:
            found.setdefault(groups[i], set()).add(split)
    return {group: next(split for split in SPLITS if split in splits) for group, splits in found.items()}


def _check_known_classes(dataset: Dataset, splits: Sequence[str]) -> None:
    """DataError where a class has no image in one of the `splits` that need one of every class."""
    for split in splits:
        if split not in COMPLETE_SPLITS[dataset.task]:
            continue
        counts = class_counts(dataset.subset(split), len(dataset.class_names))
        without = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
        if without:
            raise DataError(
                f"nothing is left for the {split} split of {listing(without, 10)}: the run that this one continues used "
                f"all of these images otherwise. Add new images, or give {split} images in a folder {split}."
            )


def describe_known_splits(dataset: Dataset, known: Sequence[str | None]) -> list[str]:
    """How many images keep the split of the run that is continued, and a warning where that run trained on what is held out."""
    pairs = [(before, sample.split) for before, sample in zip(known, dataset.samples, strict=True) if before]
    kept = Counter(before for before, now in pairs if before == now)
    counts = ", ".join(f"{kept[split]:,} {split}" for split in SPLITS if kept[split])
    lines = [f"images that keep the split they have in the parent's run: {counts}"]
    for split, roles in {"val": ("train",), "test": ("train", "val")}.items():
        if num_seen := sum(now == split and before in roles for before, now in pairs):
            lines.append(
                f"warning: the parent trained on or selected with {num_seen:,} of the {split} images, so results on them are "
                "optimistic"
            )
    return lines if kept else lines[1:]


def _fractions(dataset: Dataset, config: SplitConfig) -> dict[str, float]:
    """{split: its part of the images that are to be split}; empty where train and val are given."""
    val, test = config.val_fraction, config.test_fraction
    given = dataset.given_splits
    if "train" in given and "val" in given:
        return {}
    if config.mode == "none":
        return {"train": 1.0}
    if "train" in given:
        return {"train": 1 - val, "val": val}
    return {"train": 1 - val - test, "val": val, "test": test}


def describe_small_classes(dataset: Dataset, config: SplitConfig) -> list[str]:
    """A warning where classes are so small that, with one image for each split, train gets much less than its part."""
    fractions = list(_fractions(dataset, config).values())
    return _SMALL_CLASSES[dataset.task](dataset, fractions) if fractions else []


def _describe_small_classes(dataset: Dataset, fractions: Sequence[float]) -> list[str]:
    pool = [sample for sample in dataset.samples if sample.split in (None, "train")]
    counts = class_counts(pool, len(dataset.class_names))
    num_train = sum(whole_shares(count, fractions)[0] for count in counts)
    if num_train >= (fractions[0] - MAX_TRAIN_LOSS) * len(pool):
        return _describe_few(counts) if len(fractions) > 1 else []
    enough = math.ceil(1 / min(fractions))  # from here on the smallest split gets an image by its fraction
    num_small = sum(count < enough for count in counts)
    leave_out = f"leave these classes out (--min-images {enough}), " if len(counts) - num_small > 1 else ""
    return [
        f"train gets {num_train / len(pool):.0%} of the images, not {fractions[0]:.0%}, as {num_small:,} of "
        f"{len(counts):,} classes have fewer than {enough} images, and each split takes one or more of every class. Add images, "
        f"{leave_out}or {_CROSS_VALIDATE}"
    ]


def _describe_few(counts: Sequence[int]) -> list[str]:
    """A warning where half of the classes or more have too few images to train on and to measure."""
    median = sorted(counts)[len(counts) // 2]
    if median >= FEW_PER_CLASS:
        return []
    return [
        f"half of the {len(counts):,} classes have {plural(median, 'image')} or fewer: few to learn from, and one or two of each "
        f"class to measure on. Add images, or {_CROSS_VALIDATE}"
    ]


def without_small_classes(dataset: Dataset, hashes: Sequence[str | None], min_images: int) -> Dataset:
    """The data without the classes (multi-label: the labels) that have fewer than `min_images` different images, by name.

    `hashes[i]` is the content hash of sample i, None where it is unusable.
    """
    different = Counter(
        k for k, _ in {(k, h) for s, h in zip(dataset.samples, hashes, strict=True) if h for k in s.labels}
    )
    small = [k for k in range(len(dataset.class_names)) if different[k] < min_images]
    if not small:
        return dataset
    kept = [k for k in range(len(dataset.class_names)) if different[k] >= min_images]
    if not kept:
        raise DataError(f"no class of {dataset.name} has {min_images} different images. Lower --min-images.")
    if len(kept) == 1:
        raise DataError(
            f"--min-images {min_images} leaves one class of {dataset.name}, '{dataset.class_names[kept[0]]}', and a classifier "
            "needs two or more. Lower --min-images."
        )
    number_of = {k: number for number, k in enumerate(kept)}
    samples = (
        replace(sample, labels=tuple(number_of[k] for k in sample.labels if k in number_of))
        for sample in dataset.samples
    )
    left_out = (
        Exclusion(
            name=f"class {dataset.class_names[k]}", reason=f"fewer than {min_images} different images: {different[k]}"
        )
        for k in small
    )
    return replace(
        dataset,
        class_names=tuple(dataset.class_names[k] for k in kept),
        samples=tuple(sample for sample in samples if len(sample.labels) >= TASK_MEASURES[dataset.task].min_labels),
        exclusions=(*dataset.exclusions, *left_out),
    )


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
    """DataError where a class has fewer different images, or groups, than it needs, with what is possible then."""
    counts = class_counts((dataset.samples[i] for i in pool), len(dataset.class_names))
    distinct = Counter(k for k, _ in {(k, groups[i]) for i in pool for k in dataset.samples[i].labels})
    what = TASK_MEASURES[dataset.task].thing
    for name, count in zip(dataset.class_names, counts, strict=True):
        if count == 0:
            raise DataError(
                f"{what} '{name}' of {dataset.name} has no usable image. Add images, or remove the class from the data."
            )
    needed = len(splits) if len(splits) > 1 else MIN_CROSS_VALIDATED
    small = [k for k in range(len(counts)) if distinct[k] < needed]
    if not small:
        return
    has_groups = any(dataset.samples[i].group is not None for i in pool)
    others = ""
    if num_others := len(small) - 1:
        names = TASK_MEASURES[dataset.task].things if num_others > 1 else what
        others = f", and {num_others:,} more {names} {'have' if num_others > 1 else 'has'} fewer than {needed}"
    purpose = f"put one into each of {', '.join(splits)}"
    if len(splits) == 1:
        purpose = "learn from one while another is held out in the cross-validation of --split none"
    leave_out = f", or leave out every {what} with fewer: --min-images {needed}" if len(counts) - len(small) > 1 else ""
    raise DataError(
        f"{what} '{dataset.class_names[small[0]]}' of {dataset.name} has "
        f"{_describe_size(counts[small[0]], distinct[small[0]], has_groups=has_groups)}{others}; at least {needed} are needed "
        f"to {purpose}. Add images{leave_out}." + _offer_cross_validation(dataset, distinct, small, needed)
    )


def _describe_size(count: int, num_different: int, *, has_groups: bool) -> str:
    images = plural(count, "image")
    if num_different < count and has_groups:
        return f"{images} in {plural(num_different, 'group')}"
    return (
        images if num_different == count else f"{images}, of which {num_different} differ{'s' * (num_different == 1)}"
    )


def _offer_cross_validation(dataset: Dataset, distinct: Mapping[int, int], small: Sequence[int], needed: int) -> str:
    """--split none as a remedy, where it needs fewer images of the `small` classes than splits do."""
    single = sum(distinct[k] < MIN_CROSS_VALIDATED for k in small)
    if needed <= MIN_CROSS_VALIDATED or single == len(small) or len(dataset.class_names) - single < 2:
        return ""
    option, condition = "--split none", ""
    if single:
        option += f" --min-images {MIN_CROSS_VALIDATED}"
        names = TASK_MEASURES[dataset.task]
        condition = f" but those of {plural(single, names.thing, names.things)} with one image"
    return f" Or train a head on all images{condition}, and estimate its accuracy by cross-validation: {option}."


_SMALL_CLASSES: Mapping[Task, Callable[[Dataset, Sequence[float]], list[str]]] = MappingProxyType(
    {"multiclass": _describe_small_classes, "multilabel": lambda dataset, fractions: []}
)
