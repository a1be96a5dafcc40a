"""Preparing a run: dataset, splits, plan, network and decoded images.

Each file is read once to identify it (content hash, header, 16-bit range) and once by each reader that decodes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recog.core.config import build_config, config_to_dict
from recog.core.errors import BadImage, ConfigError
from recog.core.files import shown
from recog.core.hardware import read_hardware
from recog.core.images.colour import FULL_SCALE_16
from recog.core.text import plural
from recog.data.balance import class_factors, describe_balance, describe_factors
from recog.data.cache import DecodedImages, decode_for_each
from recog.data.dataset import (
    Dataset,
    Exclusion,
    Targets,
    check_trainable,
    class_counts,
    describe_exclusions,
    describe_unmeasurable,
    in_content_order,
    targets_of,
)
from recog.data.groups import suspect_groups
from recog.data.inspection import (
    Inspected,
    find_overlap,
    fingerprint,
    full_scale,
    highest_grey16,
    image_notes,
    inspect_images,
)
from recog.data.sources import open_source
from recog.data.split import (
    describe_known_splits,
    describe_small_classes,
    join_groups,
    split_dataset,
    without_small_classes,
)
from recog.data.store import (
    ExactReader,
    ImageStore,
    Reader,
    StreamedImages,
    channel_statistics,
    describe_bad,
    exclude_bad,
    read_exact,
    read_images,
    read_larger,
)
from recog.models.build import BuiltModel, build_from_parent, build_model, build_own_module, name_own_module
from recog.models.classifier import Classifier
from recog.models.config import with_bundle, with_known_name
from recog.models.fastnet import MAX_WHITENING_IMAGES, FastNet, whiten
from recog.models.hub import check_download
from recog.models.inner_layers import with_layers
from recog.models.weights import RANDOM_WEIGHTS
from recog.recipes.config import DataConfig, TrainConfig
from recog.recipes.parent import with_parent
from recog.recipes.plan import ImageFacts, Plan, StepsPlan, describe_data, image_facts, plan, plan_split
from recog.training.device import check_precision, choose_device, has_bfloat16
from recog.training.distributed import World, broadcast, check_agreement, first_on_machine

NO_SPLITS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A split with its targets in the same order: labels int64 [N], multi-label zeros and ones float32 [N, K].

    Equal `groups` int64 [N] are copies of one image, or images of one group of the data.
    """

    store: ImageStore | StreamedImages
    targets: Targets
    groups: NDArray[np.int64]
    names: tuple[str, ...] = ()
    class_factors: NDArray[np.float64] | None = None  # [K], how often an image of each class counts in training


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A dataset in the order of its content, split. It does not depend on the network, so several runs can share it."""

    dataset: Dataset
    inspected: Mapping[str, Inspected]  # by sample name
    facts: ImageFacts
    has_given_val: bool  # False: val was carved
    notes: tuple[str, ...]

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 by sample name."""
        return {name: image.sha256 for name, image in self.inspected.items()}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that learning needs. `notes` describe the data, the plan and the excluded images."""

    plan: Plan
    dataset: Dataset  # without its bad images
    hashes: Mapping[str, str]  # sha256 by sample name
    fingerprint: str
    model: BuiltModel
    exact: LabelledImages | None  # train as evaluation sees it, for the features of a head
    larger: LabelledImages | None  # train to augment from, for gradient steps
    val: LabelledImages | None  # None with --split none, where the data give none
    fits_val: bool  # the chosen head is fitted on val too: it was carved, and a test split measures the result
    bad: Mapping[str, tuple[Exclusion, ...]]  # excluded images by split
    notes: tuple[str, ...]


def prepare(
    config: TrainConfig,
    dataset: Dataset | None = None,
    *,
    network: nn.Module | None = None,
    world: World | None = None,
    known_splits: Mapping[str, str] = NO_SPLITS,
) -> Prepared:
    """`dataset` and `network` are objects of the caller's; else config.data.source and config.model.name name them.

    `known_splits` has the split that an image, by content hash, must keep: that of the run which this one continues.

    Each process of `world` prepares for itself, by the plan of the first; it is an error if the results differ.
    DataError or ConfigError, with the remedy, for anything that prevents training; for weights that cannot be downloaded, before
    the data are read.
    """
    world = world or World()
    if config.recipe != "scratch" and not config.model.parent:
        check_download(with_known_name(config.model))
    data = prepare_data(config, dataset, world=world, known_splits=known_splits)
    return prepare_model(config, data, network=network, world=world)


def prepare_data(
    config: TrainConfig,
    dataset: Dataset | None = None,
    *,
    world: World,
    known_splits: Mapping[str, str] = NO_SPLITS,
) -> PreparedData:
    """Read the facts of each image file once, and split."""
    dataset = dataset or open_source(config.data.source, labels=config.data.labels, layout=config.data.layout)
    check_trainable(dataset)
    found = list(inspect_images(dataset.samples, config.limits))
    facts_of = {sample.name: image for sample, image in zip(dataset.samples, found, strict=True)}
    usable = [image.sha256 if image.bad is None else None for image in found]
    dataset = without_small_classes(dataset, usable, config.data.min_images)
    check_trainable(dataset)
    dataset = in_content_order(dataset, [facts_of[sample.name].sha256 for sample in dataset.samples])
    inspected = {sample.name: facts_of[sample.name] for sample in dataset.samples}
    hashes = [image.sha256 for image in inspected.values()]
    facts = image_facts(dataset, list(inspected.values()))
    notes = (
        *describe_data(dataset, facts),
        *find_overlap(dataset.samples, hashes).notes(),
        *(f"warning: {text}" for text in describe_small_classes(dataset, plan_split(config.split, dataset))),
        *(f"warning: {text}" for text in suspect_groups(dataset)),
    )
    has_given_val = "val" in dataset.given_splits
    groups = join_groups(hashes, [sample.group for sample in dataset.samples])
    known = [known_splits.get(content_hash) for content_hash in hashes]
    dataset = split_dataset(dataset, plan_split(config.split, dataset), seed=config.seed, groups=groups, known=known)
    notes += tuple(describe_known_splits(dataset, known))
    data = PreparedData(dataset=dataset, inspected=inspected, facts=facts, has_given_val=has_given_val, notes=notes)
    check_agreement(world, "data", fingerprint(dataset, data.hashes) if world.size > 1 else "")
    return data


def prepare_model(config: TrainConfig, data: PreparedData, *, network: nn.Module | None, world: World) -> Prepared:
    """Plan, build the network and decode the images for it."""
    device = choose_device(config.compute.device, local_rank=world.local_rank)
    if network is not None:
        config = replace(config, model=name_own_module(config.model, network))
    given = config.model.name
    config, reasons = with_parent(replace(config, model=with_known_name(config.model)))
    if given not in (None, config.model.name):
        reasons = [f"network {config.model.name}: meant by {shown(str(given))}", *reasons]
    plan, planned = _plan_together(config, data, device, world)
    reasons += planned
    training = [data.inspected[sample.name] for sample in data.dataset.subset("train")]
    grey16_max, grey16_notes = choose_grey16_max(plan.data, training)
    if grey16_notes:
        plan = replace(plan, data=replace(plan.data, grey16_max=grey16_max))
    torch.manual_seed(plan.seed)  # first weights and dropout; augmentation does not draw from this stream
    torch.set_num_threads(plan.compute.num_threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    model = _build(plan, network, data.dataset)
    if plan.recipe == "head":
        model, layers, layer_notes = with_layers(model, plan.head.layers)
        plan, reasons = replace(plan, head=replace(plan.head, layers=layers)), [*reasons, *layer_notes]
    model = replace(model, preprocess=replace(model.preprocess, grey16_max=grey16_max, limits=plan.limits))
    decoded = _decode(data, model, plan, world)
    digest = fingerprint(decoded.dataset, data.hashes)
    changed = plan.data.fingerprint not in (None, digest)
    model, plan = _with_statistics(model, plan, decoded.larger)
    plan = replace(
        plan,
        data=replace(plan.data, fingerprint=digest),
        model=replace(plan.model, image_size=model.preprocess.image_size, channels=model.preprocess.channels),
    )
    check_agreement(world, "settings", config_to_dict(plan))
    splits = decoded.dataset.given_splits
    fits_val = plan.recipe == "head" and not data.has_given_val and "val" in splits and "test" in splits
    if fits_val:
        reasons = [*reasons, "the head is chosen and calibrated out of fold, then fitted on train and val together"]
    notes = (
        *data.notes,
        *describe_exclusions(decoded.dataset),
        *(f"warning: {text}" for text in describe_bad(sum(map(len, decoded.bad.values())), len(data.dataset.samples))),
        *_describe_splits(decoded.dataset),
        f"network {model.name}; weights: {model.origin.source}",
        *reasons,
        *grey16_notes,
        *image_notes(
            list(data.inspected.values()),
            image_size=model.preprocess.image_size,
            crop_mode=model.preprocess.crop_mode,
        ),
        *decoded.notes,
        *(["the data have changed since this config was written; results may differ"] if changed else []),
        *describe_factors(plan.loss.class_weights),
        *describe_balance(decoded.dataset, plan.balance, by_steps=isinstance(plan, StepsPlan)),
    )
    return Prepared(
        plan=plan,
        dataset=decoded.dataset,
        hashes=data.hashes,
        fingerprint=digest,
        model=model,
        exact=decoded.exact,
        larger=decoded.larger,
        val=decoded.val,
        fits_val=fits_val,
        bad=decoded.bad,
        notes=notes,
    )


def choose_grey16_max(config: DataConfig, training: Sequence[Inspected]) -> tuple[int, list[str]]:
    """The level of 16-bit images that becomes white, and a note if it was found in the `training` images."""
    if config.grey16_max is not None:
        return config.grey16_max, []
    highest = highest_grey16(training)
    if highest is None:
        return FULL_SCALE_16, []
    scale = full_scale(highest)
    return scale, [f"16-bit images: level {scale:,} becomes white, as the highest in the training split is {highest:,}"]


def _build(plan: Plan, network: nn.Module | None, dataset: Dataset) -> BuiltModel:
    num_classes = len(dataset.class_names)
    if plan.model.parent:
        with_head = plan.recipe == "finetune"
        return build_from_parent(plan.model, dataset.class_names, task=dataset.task, with_head=with_head)
    if network is not None:
        return build_own_module(network, plan.model, num_classes=num_classes)
    model = build_model(plan.model, num_classes=num_classes)
    if plan.recipe != "scratch" and model.origin == RANDOM_WEIGHTS:
        raise ConfigError(
            f"recipe {plan.recipe} needs pretrained weights, and {model.name} has random ones; "
            "use --recipe scratch, or give --weights FILE."
        )
    return model


def _plan_together(
    config: TrainConfig, data: PreparedData, device: torch.device, world: World
) -> tuple[Plan, list[str]]:
    """The plan of the first process, for all of them: their machines may differ."""
    hardware = read_hardware()
    planned, reasons = plan(
        replace(config, model=with_bundle(config.model)),
        data.dataset,
        data.facts,
        replace(hardware, num_cores=max(1, hardware.num_cores // world.local_size)),
        has_bfloat16=has_bfloat16(device),
        device="cuda" if device.type == "cuda" else "cpu",
    )
    check_precision(device, planned.compute.precision)
    if device.type == "cuda":
        reasons = [*reasons, f"training on {torch.cuda.get_device_name(device)} in {planned.compute.precision}"]
    if world.size > 1:
        reasons = [*reasons, _describe_world(world, planned, device)]
        planned = build_config(type(planned), broadcast(world, config_to_dict(planned)))
    return planned, reasons


def _describe_world(world: World, plan: Plan, device: torch.device) -> str:
    if not isinstance(plan, StepsPlan):
        return f"{world.size} processes: process 0 fits the head, the others wait"
    norms = "uses statistics of the whole batch"
    if plan.optim.freeze_batch_norm:
        norms = "keeps its pretrained statistics"
    elif device.type != "cuda":
        norms = "uses statistics of each process's own images (torch synchronises them on GPUs only)"
    return (
        f"{world.size} processes train together: each takes its share of a batch of {plan.loader.batch_size}; "
        f"BatchNorm, if there is any, {norms}; {plan.compute.num_threads} threads each"
    )


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    dataset: Dataset  # without its bad images
    exact: LabelledImages | None
    larger: LabelledImages | None
    val: LabelledImages | None
    bad: Mapping[str, tuple[Exclusion, ...]]  # by split
    notes: tuple[str, ...]


def _decode(data: PreparedData, model: BuiltModel, plan: Plan, world: World) -> _Decoded:
    """Read every split; bad files are excluded by one policy in each of them.

    The test split is decoded only to find its bad files early; nothing of it is kept.
    """
    dataset, exact = data.dataset, read_exact(model.preprocess)
    factors = class_factors(plan.loss.class_weights, dataset.class_names)
    found: dict[str, tuple[LabelledImages, DecodedImages]] = {}
    for split, readers in _wanted(
        plan, exact, has_val="val" in dataset.given_splits, is_writer=world.is_writer
    ).items():
        shared = [purpose for purpose in readers if purpose != "exact"]
        with first_on_machine(world) if shared else contextlib.nullcontext():
            found |= _read_split(data, split, readers, factors, num_sharers=world.local_size)
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
    return _Decoded(
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
    data: PreparedData,
    split: str,
    readers: Mapping[str, Reader],
    factors: NDArray[np.float64] | None,
    *,
    num_sharers: int,
) -> dict[str, tuple[LabelledImages, DecodedImages]]:
    """By purpose, from `readers` by purpose."""
    dataset, hashes = data.dataset, data.hashes
    keys = [hashes[sample.name] for sample in dataset.samples]
    joined = join_groups(keys, [sample.group for sample in dataset.samples])
    numbers = {sample.name: int(group) for sample, group in zip(dataset.samples, joined, strict=True)}
    samples = dataset.subset(split)
    digests = [hashes[sample.name] for sample in samples]
    name = f"{dataset.name} {split}"
    found = {}
    each = decode_for_each(samples, list(readers.values()), digests, name=name, num_sharers=num_sharers)
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


def _with_statistics(model: BuiltModel, plan: Plan, train: LabelledImages | None) -> tuple[BuiltModel, Plan]:
    """From scratch, mean and deviation per channel and a whitening layer are taken from the training images."""
    if plan.recipe != "scratch" or train is None:
        return model, plan
    if plan.model.mean is None:
        mean, std = channel_statistics(train.store)
        model = replace(model, classifier=Classifier(model.classifier.network, mean=mean, std=std))
        plan = replace(plan, model=replace(plan.model, mean=mean, std=std))
    if isinstance(model.classifier.network, FastNet):
        chosen = np.linspace(0, len(train.store) - 1, min(len(train.store), MAX_WHITENING_IMAGES)).astype(np.int64)
        whiten(model.classifier, train.store.fetch(chosen))
    return model, plan


def _describe_splits(dataset: Dataset) -> list[str]:
    lines = []
    for split in dataset.given_splits:
        counts = class_counts(dataset.subset(split), len(dataset.class_names))
        per = "with each label" if dataset.task == "multilabel" else "per class"
        least = f"{min(counts):,} to " if min(counts) < max(counts) else ""
        lines.append(f"{split}: {plural(len(dataset.subset(split)), 'image')}, {least}{max(counts):,} {per}")
    if dataset.task == "multilabel":
        lines += describe_unmeasurable(dataset)
    return lines
