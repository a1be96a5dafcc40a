"""Preparing a run: dataset, splits, plan, network and decoded images.

Each file is read once to identify it (content hash, header, 16-bit range) and once by each reader that decodes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from recog.core.config import build_config, config_to_dict
from recog.core.errors import ConfigError
from recog.core.files import shown
from recog.core.hardware import read_hardware
from recog.core.images.colour import FULL_SCALE_16
from recog.core.preprocess import Preprocess
from recog.core.text import plural
from recog.data.balance import describe_balance, describe_factors
from recog.data.dataset import (
    Dataset,
    Exclusion,
    check_trainable,
    describe_exclusions,
    in_content_order,
)
from recog.data.groups import suspect_groups
from recog.data.inspection import (
    ImageFacts,
    Inspected,
    describe_data,
    describe_splits,
    find_overlap,
    fingerprint,
    full_scale,
    highest_grey16,
    image_facts,
    image_notes,
    inspect_images,
)
from recog.data.sources import open_source
from recog.data.split import (
    NEW_SPLIT,
    SplitConfig,
    describe_known_splits,
    describe_small_classes,
    join_groups,
    split_dataset,
    without_small_classes,
)
from recog.data.store import (
    channel_statistics,
    describe_bad,
)
from recog.deployment.feature_map import with_feature_map
from recog.deployment.onnx import Exported, open_exported
from recog.models.build import BuiltModel, build_from_parent, build_model, build_own_module, name_own_module
from recog.models.classifier import Classifier
from recog.models.config import with_bundle, with_known_name
from recog.models.hub import check_download
from recog.models.inner_layers import with_layers
from recog.models.networks.fastnet import MAX_WHITENING_IMAGES, FastNet, whiten
from recog.models.weights import RANDOM_WEIGHTS
from recog.recipes.choose_input import check_open, choose_input
from recog.recipes.config import DataConfig, TrainConfig, with_parent
from recog.recipes.labelled_images import DecodedSplits, FrozenFeatures, LabelledImages, decode_splits
from recog.recipes.plan import HEAD_INPUTS, Plan, StepsPlan, plan, plan_split
from recog.training.device import check_precision, choose_device, choose_precision, has_bfloat16
from recog.training.distributed import World, broadcast, check_agreement

NO_SPLITS: Mapping[str, str] = MappingProxyType({})
DecodeSplits = Callable[[Dataset, Mapping[str, str], Preprocess, Plan, World], DecodedSplits]


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A dataset in the order of its content, split. It does not depend on the network, so several runs can share it."""

    dataset: Dataset
    inspected: Mapping[str, Inspected]  # by sample name
    facts: ImageFacts
    split: SplitConfig  # as planned
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
    data_notes: tuple[str, ...] = ()  # of `notes`, what was noticed of the images
    measured: Exported | None = None  # `frozen`, if it was needed for planning
    features: FrozenFeatures | None = None  # of the frozen network, if they are known already

    @cached_property
    def frozen(self) -> Exported:
        """The network as a file, with its engine: asked for before training, whose features a head is fitted on.

        The features are those of the bundle, several times faster than by torch.
        """
        model, threads = self.model, self.plan.compute.num_threads
        return self.measured or open_exported(
            model.classifier, model.preprocess, self.dataset.class_names, num_threads=threads
        )


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    plan: Plan
    built: BuiltModel
    reasons: tuple[str, ...]  # of the plan
    grey16_notes: tuple[str, ...]


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
    if config.head.compare:
        check_open(config)
    data = prepare_data(config, dataset, world=world, known_splits=known_splits)
    if config.head.compare:
        config, data = _with_best_input(config, data, world)
    return prepare_model(config, data, network=network, world=world)


def _with_best_input(config: TrainConfig, data: PreparedData, world: World) -> tuple[TrainConfig, PreparedData]:
    """With the network, input size and mirrored views that the first process finds best, and the table among the notes."""
    found, lines = HEAD_INPUTS[0], list[str]()
    if world.is_writer:
        training = [data.inspected[sample.name] for sample in data.dataset.subset("train")]
        grey16_max, _ = choose_grey16_max(config.data, training)
        found, lines = choose_input(config, data.dataset, grey16_max=grey16_max)
    number, lines = broadcast(world, [HEAD_INPUTS.index(found), lines])
    found = HEAD_INPUTS[number]
    model = replace(config.model, name=found.name, image_size=found.image_size)
    config = replace(config, recipe="head", model=model, head=replace(config.head, compare=False, mirror=found.mirror))
    return config, replace(data, notes=(*data.notes, *lines))


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
    facts, split = image_facts(dataset, list(inspected.values())), plan_split(config.split, dataset)
    notes = (
        *(f"warning: {text}" for text in find_overlap(dataset.samples, hashes).notes()),
        *(f"warning: {text}" for text in describe_small_classes(dataset, split)),
        *(f"warning: {text}" for text in suspect_groups(dataset)),
    )
    has_given_val, is_carved = "val" in dataset.given_splits, not dataset.given_splits and split.mode == "auto"
    groups = join_groups(hashes, [sample.group for sample in dataset.samples])
    known = [known_splits.get(content_hash) for content_hash in hashes]
    dataset = split_dataset(dataset, split, seed=config.seed, groups=groups, known=known)
    notes += tuple(describe_known_splits(dataset, known))
    if is_carved and (config.data.exclude or config.data.relabel):
        notes += (NEW_SPLIT,)
    data = PreparedData(
        dataset=dataset, inspected=inspected, facts=facts, split=split, has_given_val=has_given_val, notes=notes
    )
    check_agreement(world, "data", fingerprint(dataset, data.hashes) if world.size > 1 else "")
    return data


def plan_model(
    config: TrainConfig, data: PreparedData, *, network: nn.Module | None = None, world: World | None = None
) -> PlannedModel:
    """Plan, and build the network."""
    world = world or World()
    device = choose_device(config.compute.device, local_rank=world.local_rank)
    if network is not None:
        config = replace(config, model=name_own_module(config.model, network))
    config, given = replace(config, split=data.split), config.model.name
    config, reasons = with_parent(replace(config, model=with_known_name(config.model)))
    if given not in (None, config.model.name):
        reasons = [f"{shown(str(given))} means {config.model.name}", *reasons]
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
    if plan.recipe != "scratch":
        wanted = "last" if model.has_head else plan.head.layers  # a parent's last layer reads its own features
        model, layers, layer_notes = with_layers(model, wanted, mirror=plan.head.mirror)
        plan, reasons = replace(plan, head=replace(plan.head, layers=layers)), [*reasons, *layer_notes]
    if plan.export.feature_map:  # refused now, not after training
        with_feature_map(model.classifier, model.preprocess.image_size)
    model = replace(model, preprocess=replace(model.preprocess, grey16_max=grey16_max, limits=plan.limits))
    if isinstance(plan, StepsPlan) and config.compute.precision is None and device.type == "cpu":
        precision, precision_notes = choose_precision(
            model.classifier,
            model.preprocess,
            candidate=plan.compute.precision,
            batch_size=plan.loader.batch_size,
            num_images=plan.optim.epochs * len(training),
            world=world,
        )
        plan = replace(plan, compute=replace(plan.compute, precision=precision))
        reasons += precision_notes
    return PlannedModel(plan=plan, built=model, reasons=tuple(reasons), grey16_notes=tuple(grey16_notes))


def prepare_model(
    config: TrainConfig,
    data: PreparedData,
    *,
    network: nn.Module | None,
    world: World,
    measured: Exported | None = None,
    decode: DecodeSplits = decode_splits,
) -> Prepared:
    """Plan, build the network and decode the images for it. `measured` is that network, if it was exported already."""
    planned = plan_model(config, data, network=network, world=world)
    plan, model, reasons = planned.plan, planned.built, list(planned.reasons)
    decoded = decode(data.dataset, data.hashes, model.preprocess, plan, world)
    digest = fingerprint(decoded.dataset, data.hashes)
    changed = plan.data.fingerprint not in (None, digest)
    model, plan = _with_statistics(model, plan, decoded.larger)
    plan = replace(
        plan,
        data=replace(plan.data, fingerprint=digest),
        model=replace(plan.model, image_size=model.preprocess.image_size, channels=model.preprocess.channels),
    )
    check_agreement(world, "settings", config_to_dict(plan))
    keeps_val = data.has_given_val or plan.noisy_labels  # which does not judge the labels of val
    fits_val = plan.recipe == "head" and not keeps_val and {"val", "test"} <= set(decoded.dataset.given_splits)
    if fits_val:
        reasons.append("the head is chosen and calibrated by cross-validation, then fitted on train and val together")
    num_bad = sum(map(len, decoded.bad.values()))
    noticed = (
        *describe_data(data.dataset, data.facts, num_bad=num_bad),
        *data.notes,
        *describe_exclusions(decoded.dataset),
        *(f"warning: {text}" for text in describe_bad(num_bad, len(data.dataset.samples))),
    )
    inspected = [
        data.inspected[sample.name] for sample in decoded.dataset.samples
    ]  # without the bad ones, as `recog scan`
    of_images = (
        *planned.grey16_notes,
        *image_notes(inspected, image_size=model.preprocess.image_size, crop_mode=model.preprocess.crop_mode),
    )
    notes = (
        *noticed,
        *describe_splits(decoded.dataset),
        f"network {model.name}; weights: {model.origin.source}",
        *reasons,
        *of_images,
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
        measured=measured,
        data_notes=(*noticed, *of_images),
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
    num_classes, with_head = len(dataset.class_names), plan.recipe == "finetune"
    if plan.model.parent:
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
        f"BatchNorm, if there is any, {norms}; {plural(plan.compute.num_threads, 'thread')} each"
    )


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
