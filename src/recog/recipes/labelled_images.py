"""The decoded images of each split with their targets; bad files are excluded by one policy in all of them. And their outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BadImage
from recog.core.preprocess import Preprocess
from recog.data.balance import class_factors
from recog.data.cache import DecodedImages, decode_for_each
from recog.data.dataset import Dataset, Exclusion, Targets, check_trainable, targets_of
from recog.data.split import join_groups
from recog.data.store import (
    ChosenImages,
    ExactReader,
    ImageStore,
    Reader,
    Rows,
    StreamedImages,
    exclude_bad,
    read_exact,
    read_images,
    read_larger,
)
from recog.evaluation.trust.conformal import image_coins
from recog.recipes.plan import Plan, StepsPlan
from recog.runtime.engine import Engine, Outputs, images_at_once
from recog.training.distributed import World, broadcast, check_agreement, first_on_machine

READ_ONCE_BYTES = 192 << 20  # in memory of images whose features are taken once; the others wait in the cache


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A split with its targets in the same order: labels int64 [N], multi-label zeros and ones float32 [N, K].

    Equal `groups` int64 [N] are copies of one image, or images of one group of the data.
    """

    store: ImageStore | StreamedImages | ChosenImages
    targets: Targets
    groups: NDArray[np.int64]
    names: tuple[str, ...] = ()
    class_factors: NDArray[np.float64] | None = None  # [K], how often an image of each class counts in training

    def without(self, names: Collection[str]) -> LabelledImages:
        """Without the images of these names."""
        rows = np.array([row for row, name in enumerate(self.names) if name not in names], dtype=np.int64)
        return replace(
            self,
            store=ChosenImages(self.store, rows),
            targets=self.targets[rows],
            groups=self.groups[rows],
            names=tuple(self.names[row] for row in rows),
        )


@dataclass(frozen=True, kw_only=True)
class DecodedSplits:
    dataset: Dataset  # without its bad images
    exact: LabelledImages | None
    larger: LabelledImages | None
    val: LabelledImages | None
    bad: Mapping[str, tuple[Exclusion, ...]]  # by split
    notes: tuple[str, ...]


def decode_splits(  # noqa: PLR0913
    dataset: Dataset,
    hashes: Mapping[str, str],
    preprocess: Preprocess,
    plan: Plan,
    world: World,
    *,
    max_memory_bytes: int | None = None,
) -> DecodedSplits:
    """Read every split; bad files are excluded by one policy in each of them. What exceeds `max_memory_bytes` is mapped from
    the cache.

    The test split is decoded only to find its bad files early; nothing of it is kept.
    """
    exact = read_exact(preprocess)
    factors = class_factors(plan.loss.class_weights, dataset.class_names)
    found: dict[str, tuple[LabelledImages, DecodedImages]] = {}
    for split, readers in _wanted(
        plan, exact, has_val="val" in dataset.given_splits, is_writer=world.is_writer
    ).items():
        shared = [purpose for purpose in readers if purpose != "exact"]
        with first_on_machine(world) if shared else contextlib.nullcontext():
            limit = max_memory_bytes
            if limit is None and not isinstance(plan, StepsPlan):
                limit = READ_ONCE_BYTES
            found |= _read_split(
                dataset, hashes, split, readers, factors, num_sharers=world.local_size, max_memory_bytes=limit
            )
        for purpose in shared:
            check_agreement(world, f"readable {split} images", found[purpose][1].rows.tolist())
    bad = {error.name: error for _, decoded in found.values() for error in decoded.bad}
    for result in read_images(dataset.subset("test"), exact) if world.is_writer else ():
        if isinstance(result, BadImage):
            bad[result.name] = result
    rows = broadcast(world, [[error.name, error.reason, error.remedy] for error in bad.values()])
    bad = {name: BadImage(name, reason, remedy) for name, reason, remedy in rows}
    split_of = {sample.name: sample.split or "" for sample in dataset.samples}
    excluded = {
        split: tuple(Exclusion(name=e.name, reason=e.reason) for e in bad.values() if split_of[e.name] == split)
        for split in dataset.given_splits
    }
    dataset = exclude_bad(dataset, list(bad.values()), policy=plan.data.bad_images)
    check_trainable(dataset)
    images = {purpose: split_images for purpose, (split_images, _) in found.items()}
    return DecodedSplits(
        dataset=dataset,
        exact=images.get("exact"),
        larger=images.get("larger"),
        val=images.get("val"),
        bad=excluded,
        notes=tuple(
            f"{'val' if purpose == 'val' else 'train'}: {decoded.note}"
            for purpose, (_, decoded) in found.items()
            if decoded.note
        ),
    )


def _read_split(
    dataset: Dataset,
    hashes: Mapping[str, str],
    split: str,
    readers: Mapping[str, Reader],
    factors: NDArray[np.float64] | None,
    *,
    num_sharers: int,
    max_memory_bytes: int | None,
) -> dict[str, tuple[LabelledImages, DecodedImages]]:
    """By purpose, from `readers` by purpose."""
    keys = [hashes[sample.name] for sample in dataset.samples]
    joined = join_groups(keys, [sample.group for sample in dataset.samples])
    numbers = {sample.name: int(group) for sample, group in zip(dataset.samples, joined, strict=True)}
    samples = dataset.subset(split)
    digests = [hashes[sample.name] for sample in samples]
    name = f"{dataset.name} {split}"
    found = {}
    each = decode_for_each(
        samples, list(readers.values()), digests, name=name, num_sharers=num_sharers, max_memory_bytes=max_memory_bytes
    )
    for purpose, decoded in zip(readers, each, strict=True):
        rows = [int(row) for row in decoded.rows]
        images = LabelledImages(
            store=decoded.images,
            targets=targets_of(samples, len(dataset.class_names), dataset.task)[decoded.rows],
            groups=np.array([numbers[samples[row].name] for row in rows], dtype=np.int64),
            names=tuple(samples[row].name for row in rows),
            class_factors=factors,
        )
        found[purpose] = images, decoded
    return found


def _wanted(plan: Plan, exact: ExactReader, *, has_val: bool, is_writer: bool) -> dict[str, dict[str, Reader]]:
    """By split, the readers by purpose. The first of several processes fits the head."""
    train: dict[str, Reader] = {}
    if plan.recipe != "scratch" and is_writer:
        train["exact"] = exact
    if isinstance(plan, StepsPlan):
        train["larger"] = read_larger(exact.preprocess) if plan.augment.needs_larger_images else exact
    val: dict[str, Reader] = {"val": exact} if has_val else {}
    return {split: readers for split, readers in (("val", val), ("train", train)) if readers}


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenFeatures:
    """Of train, then val: features float32 [N, D] before they are standardised, and `image_coins` float64 [N]."""

    features: NDArray[np.float32]
    coins: NDArray[np.float64]


def frozen_features(engine: Engine, splits: Sequence[LabelledImages]) -> FrozenFeatures:
    """The features that `engine` gives of `splits`, one after the other."""
    outputs, coins = zip(*(run_engine(engine, split.store.rows()) for split in splits), strict=True)
    return FrozenFeatures(features=np.concatenate([output.features for output in outputs]), coins=np.concatenate(coins))


def run_engine(engine: Engine, images: Rows) -> tuple[Outputs, NDArray[np.float64]]:
    """The outputs for images uint8 [N, H, W, C], and their `image_coins` [N]; each image is read once."""
    outputs, uniforms = [], []
    height, width = images[:1].shape[1:3]
    batch_size = images_at_once((height, width))
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        outputs.append(engine(batch))
        uniforms.append(image_coins(batch))
    together = Outputs(
        logits=np.concatenate([output.logits for output in outputs]),
        features=np.concatenate([output.features for output in outputs]),
    )
    return together, np.concatenate(uniforms)
