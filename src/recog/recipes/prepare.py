"""From what the user named to what can be trained on: dataset, plan, splits, network, decoded images.

Each file is read once to identify it (content hash, header, 16-bit grey range) and once by each reader that decodes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recog.core.config import build_config, config_to_dict
from recog.core.errors import BadImage, ConfigError
from recog.core.hardware import read_hardware
from recog.data.balance import describe_balance
from recog.data.cache import decode_images
from recog.data.dataset import (
    Dataset,
    Exclusion,
    Targets,
    check_trainable,
    class_counts,
    describe_exclusions,
    in_content_order,
    labels_without_images,
    targets_of,
)
from recog.data.inspection import Inspected, find_overlap, fingerprint, full_scale, highest_grey16, inspect_images
from recog.data.sources import open_source
from recog.data.split import join_groups, split_dataset
from recog.data.store import (
    ExactReader,
    ImageStore,
    Reader,
    StreamedImages,
    channel_statistics,
    exclude_bad,
    read_exact,
    read_images,
    read_larger,
)
from recog.models.build import BuiltModel, build_model, build_own_module, name_own_module
from recog.models.classifier import Classifier
from recog.models.fastnet import MAX_WHITENING_IMAGES, FastNet, whiten
from recog.models.weights import RANDOM_WEIGHTS
from recog.recipes.config import TrainConfig
from recog.recipes.plan import ImageFacts, describe_data, image_facts, plan
from recog.training.device import check_precision, choose_device, has_bfloat16
from recog.training.distributed import World, broadcast, check_agreement, first_on_machine


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A split with its targets in the same order: labels int64 [N], multi-label zeros and ones float32 [N, K].

    Equal `groups` int64 [N] are copies of one image.
    """

    store: ImageStore | StreamedImages
    targets: Targets
    groups: NDArray[np.int64]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that learning needs. `config` is resolved; `notes` say what was understood, decided and left out."""

    config: TrainConfig
    dataset: Dataset  # less its bad images
    hashes: Mapping[str, str]  # sha256 by sample name
    fingerprint: str
    model: BuiltModel
    exact: LabelledImages | None  # train as evaluation sees it, where features are computed
    larger: LabelledImages | None  # train to augment from, where steps are taken
    val: LabelledImages
    bad: Mapping[str, tuple[Exclusion, ...]]  # by split, the images that were left out
    notes: tuple[str, ...]


def prepare(
    config: TrainConfig,
    dataset: Dataset | None = None,
    *,
    network: nn.Module | None = None,
    world: World | None = None,
) -> Prepared:
    """`dataset` and `network` are what was given as objects; else config.data.source and config.model.name name them.

    Each process of `world` prepares for itself, by the plan of the first, and it is an error where they come to differ.
    Raises DataError or ConfigError, with the remedy, for whatever stands in the way of training.
    """
    world = world or World()
    device = choose_device(config.compute.device, local_rank=world.local_rank)
    dataset, inspected = _identify(dataset or open_source(config.data.source, labels=config.data.labels))
    hashes = {name: image.sha256 for name, image in inspected.items()}
    check_agreement(world, "data", fingerprint(dataset, hashes) if world.size > 1 else "")
    facts = image_facts(dataset, inspected.values())
    notes = [*describe_data(dataset, facts), *find_overlap(dataset.samples, list(hashes.values())).notes()]
    if network is not None:
        config = replace(config, model=name_own_module(config.model, network))
    config, reasons = _plan_together(config, dataset, facts, device, world)
    groups = join_groups(list(hashes.values()), [sample.group for sample in dataset.samples])
    dataset = split_dataset(dataset, config.split, seed=config.seed, groups=groups)
    config = _with_grey16_max(config, dataset, inspected, reasons)
    torch.manual_seed(config.seed)  # first weights and dropout; what touches the data is counted, not drawn
    torch.set_num_threads(config.compute.num_threads or 1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    model = _build(config, network, num_classes=len(dataset.class_names))
    model = replace(model, preprocess=replace(model.preprocess, grey16_max=config.data.grey16_max or 65535))
    dataset, images, bad = _decode(dataset, model, config, hashes, reasons, world=world)
    digest = fingerprint(dataset, hashes)
    if config.data.fingerprint not in (None, digest):
        reasons.append("the data are not those that this config was written for; the result may differ")
    model, config = _with_statistics(model, config, images)
    config = replace(
        config,
        data=replace(config.data, fingerprint=digest),
        model=replace(config.model, image_size=model.preprocess.image_size, channels=model.preprocess.channels),
    )
    check_agreement(world, "settings", config_to_dict(config))
    reasons += describe_balance(dataset, config.balance, by_steps=config.recipe != "head")
    notes += [
        *describe_exclusions(dataset),
        *_describe_splits(dataset),
        f"network {model.name}; weights: {model.origin.source}",
        *reasons,
    ]
    return Prepared(
        config=config,
        dataset=dataset,
        hashes=hashes,
        fingerprint=digest,
        model=model,
        exact=images.get("exact"),
        larger=images.get("larger"),
        val=images["val"],
        bad=bad,
        notes=tuple(notes),
    )


def _build(config: TrainConfig, network: nn.Module | None, *, num_classes: int) -> BuiltModel:
    if network is not None:
        return build_own_module(network, config.model, num_classes=num_classes)
    model = build_model(config.model, num_classes=num_classes)
    if config.recipe != "scratch" and model.origin == RANDOM_WEIGHTS:
        raise ConfigError(
            f"recipe {config.recipe} needs pretrained weights, and {model.name} has random ones; "
            "use --recipe scratch, or give --weights FILE.safetensors."
        )
    return model


def _identify(dataset: Dataset) -> tuple[Dataset, dict[str, Inspected]]:
    """The dataset in the order of its content, and the facts of each image by its name, in that order."""
    check_trainable(dataset)
    found = list(inspect_images(dataset.samples))
    facts_of = dict(zip((sample.name for sample in dataset.samples), found, strict=True))
    dataset = in_content_order(dataset, [image.sha256 for image in found])
    return dataset, {sample.name: facts_of[sample.name] for sample in dataset.samples}


def _with_grey16_max(
    config: TrainConfig, dataset: Dataset, inspected: Mapping[str, Inspected], reasons: list[str]
) -> TrainConfig:
    """One scale for all 16-bit grey images, found in the training split alone."""
    if config.data.grey16_max is not None:
        return config
    highest = highest_grey16([inspected[sample.name] for sample in dataset.subset("train")])
    if highest is None:
        return config
    scale = full_scale(highest)
    reasons.append(
        f"16-bit grey images: level {scale:,} becomes white, as the highest in the training split is {highest:,}"
    )
    return replace(config, data=replace(config.data, grey16_max=scale))


def _plan_together(
    config: TrainConfig, dataset: Dataset, facts: ImageFacts, device: torch.device, world: World
) -> tuple[TrainConfig, list[str]]:
    """The plan of the first process for all of them: the others' machines may be of another kind."""
    hardware = read_hardware()
    config, reasons = plan(
        config,
        dataset,
        facts,
        replace(hardware, num_cores=max(1, hardware.num_cores // world.local_size)),
        has_bfloat16=has_bfloat16(device),
        device="cuda" if device.type == "cuda" else "cpu",
    )
    check_precision(device, config.compute.precision or "float32")
    if device.type == "cuda":
        reasons.append(f"training on {torch.cuda.get_device_name(device)} in {config.compute.precision}")
    if world.size > 1:
        reasons.append(_describe_world(world, config, device))
        config = build_config(TrainConfig, broadcast(world, config_to_dict(config)))
    return config, reasons


def _describe_world(world: World, config: TrainConfig, device: torch.device) -> str:
    if config.recipe == "head":
        return f"{world.size} processes: a head is fitted by the first of them alone, the others wait for it"
    norms = "normalises over the whole batch"
    if config.optim.freeze_batch_norm:
        norms = "keeps its pretrained statistics"
    elif device.type != "cuda":
        norms = "normalises over each process's own images (a CPU knows no other way)"
    return (
        f"{world.size} processes train together: of every batch of {config.loader.batch_size} each takes its part; "
        f"BatchNorm, where there is any, {norms}; {config.compute.num_threads} threads each"
    )


def _decode(
    dataset: Dataset,
    model: BuiltModel,
    config: TrainConfig,
    hashes: Mapping[str, str],
    notes: list[str],
    *,
    world: World,
) -> tuple[Dataset, dict[str, LabelledImages], dict[str, tuple[Exclusion, ...]]]:
    """Read every split; bad files are excluded by one policy wherever they are, the test split's included.

    The test split is decoded here only to find its bad files before the time is spent; nothing of it is kept.
    """
    exact = read_exact(model.preprocess)
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(hashes.values()))}
    bad: dict[str, BadImage] = {}
    images = {}
    for purpose, (split, reader) in _wanted(config, exact, is_writer=world.is_writer).items():
        samples = dataset.subset(split)
        digests = [hashes[sample.name] for sample in samples]
        with first_on_machine(world) if purpose != "exact" else contextlib.nullcontext():
            decoded = decode_images(
                samples, reader, digests, name=f"{dataset.name} {split}", num_sharers=world.local_size
            )
        if purpose != "exact":
            check_agreement(world, f"readable {split} images", decoded.rows.tolist())
        bad.update((error.name, error) for error in decoded.bad)
        notes += [f"{split}: {decoded.note}"] if decoded.note else []
        targets = targets_of(samples, len(dataset.class_names), dataset.task)[decoded.rows]
        groups = np.array([numbers[hashes[samples[row].name]] for row in decoded.rows], dtype=np.int64)
        names = tuple(samples[row].name for row in decoded.rows)
        images[purpose] = LabelledImages(store=decoded.images, targets=targets, groups=groups, names=names)
    for result in read_images(dataset.subset("test"), exact) if world.is_writer else ():
        if isinstance(result, BadImage):
            bad[result.name] = result
    told = broadcast(world, [[error.name, error.reason, error.remedy] for error in bad.values()])
    bad = {name: BadImage(name, reason, remedy) for name, reason, remedy in told}
    split_of = {sample.name: sample.split or "" for sample in dataset.samples}
    left_out = {
        split: tuple(Exclusion(name=e.name, reason=e.reason) for e in bad.values() if split_of[e.name] == split)
        for split in dataset.given_splits
    }
    dataset = exclude_bad(dataset, list(bad.values()), policy=config.data.bad_images)
    check_trainable(dataset)
    return dataset, images, left_out


def _wanted(config: TrainConfig, exact: ExactReader, *, is_writer: bool) -> dict[str, tuple[str, Reader]]:
    """By purpose, the split to decode and its reader. Of several processes, the first one alone fits a head."""
    wanted: dict[str, tuple[str, Reader]] = {"val": ("val", exact)}
    if config.recipe in ("head", "finetune") and is_writer:
        wanted["exact"] = ("train", exact)
    if config.recipe in ("scratch", "finetune"):
        larger = read_larger(exact.preprocess) if config.augment.needs_larger_images else exact
        wanted["larger"] = ("train", larger)
    return wanted


def _with_statistics(
    model: BuiltModel, config: TrainConfig, images: Mapping[str, LabelledImages]
) -> tuple[BuiltModel, TrainConfig]:
    """A network from scratch takes mean and deviation per channel, and a whitening layer, from its training images."""
    if config.recipe != "scratch":
        return model, config
    store = images["larger"].store
    if config.model.mean is None:
        mean, std = channel_statistics(store)
        model = replace(model, classifier=Classifier(model.classifier.network, mean=mean, std=std))
        config = replace(config, model=replace(config.model, mean=mean, std=std))
    if isinstance(model.classifier.network, FastNet):
        chosen = np.linspace(0, len(store) - 1, min(len(store), MAX_WHITENING_IMAGES)).astype(np.int64)
        whiten(model.classifier, store.fetch(chosen))
    return model, config


def _describe_splits(dataset: Dataset) -> list[str]:
    lines = []
    for split in dataset.given_splits:
        counts = class_counts(dataset.subset(split), len(dataset.class_names))
        per = "with each label" if dataset.task == "multilabel" else "per class"
        lines.append(f"{split}: {len(dataset.subset(split)):,} images, {min(counts):,} to {max(counts):,} {per}")
    if dataset.task == "multilabel":
        lines += [
            f"in {split} no image differs in {len(names)} labels, so they cannot be measured there: {', '.join(names[:10])}"
            for split, names in labels_without_images(dataset).items()
        ]
    return lines
