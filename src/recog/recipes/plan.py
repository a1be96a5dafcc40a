"""Planning before training: what is not set is decided here, with its reason, from the data and the machine, and written down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from recog.core.errors import ConfigError, DataError
from recog.core.hardware import Hardware
from recog.data.dataset import Dataset
from recog.data.inspection import Inspected
from recog.data.split import SplitConfig
from recog.models.build import ModelConfig
from recog.models.own_module import PREFIX
from recog.models.table import own_network
from recog.recipes.config import ComputeConfig, Recipe, TrainConfig, check_all_used, unused_settings
from recog.training.device import Device, Precision

SMALL_IMAGE_PX = 64  # up to here a network of our own from scratch beats features made for 224 px
PRETRAINED = "tf_efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Sizes (height, width) and channels of the readable images."""

    sizes: tuple[tuple[int, int], ...]
    all_grey: bool

    @property
    def one_size(self) -> tuple[int, int] | None:
        return self.sizes[0] if len(set(self.sizes)) == 1 else None

    @property
    def largest_side(self) -> int:
        return max(max(size) for size in self.sizes)


def image_facts(dataset: Dataset, inspected: Iterable[Inspected]) -> ImageFacts:
    """Sizes and channels of the images whose header could be read. DataError where there are none."""
    found = list(inspected)
    infos = [image.info for image in found if image.info is not None]
    if not infos:
        first = next((image.bad for image in found), None)
        raise DataError(f"no file of {dataset.name} is a usable image; the first: {first}")
    return ImageFacts(
        sizes=tuple((info.height, info.width) for info in infos),
        all_grey=all(info.mode in ("1", "L", "LA") or info.mode.startswith("I") for info in infos),
    )


def plan(
    config: TrainConfig,
    dataset: Dataset,
    facts: ImageFacts,
    hardware: Hardware,
    *,
    has_bfloat16: bool,
    device: Device = "cpu",
) -> tuple[TrainConfig, list[str]]:
    """`config` with every open field decided, and the reasons for what was decided here. A planned config stays as it is.

    `device` is the one that `config.compute.device` comes to on this machine, and `has_bfloat16` is of that one.
    """
    reasons: list[str] = []
    recipe = config.recipe
    if recipe is None:
        recipe, why = _choose_recipe(config, facts)
        reasons.append(f"recipe {recipe}: {why}")
    check_all_used(config, recipe)
    split = config.split
    if dataset.test_fraction is not None and split == SplitConfig():
        split = replace(split, test_fraction=dataset.test_fraction)
    config = replace(
        config,
        recipe=recipe,
        split=split,
        model=_plan_model(config.model, recipe, facts, reasons),
        compute=ComputeConfig(
            device=device,
            num_threads=config.compute.num_threads or hardware.num_cores,
            precision=config.compute.precision or _plan_precision(recipe, device, has_bfloat16),
        ),
    )
    if recipe == "head":
        return config, reasons
    return _plan_training(config, dataset, facts, reasons), reasons


def _choose_recipe(config: TrainConfig, facts: ImageFacts) -> tuple[Recipe, str]:
    if config.model.weights == "none":
        return "scratch", "no pretrained weights were asked for"
    if (config.model.name or "").startswith(PREFIX):
        return "scratch", "a module of your own is trained as a whole, from the weights that it has"
    own = own_network(config.model.name or "")
    if own is not None and own.weights is None and config.model.weights == "auto":
        return "scratch", f"{config.model.name} has no published weights"
    if facts.largest_side <= SMALL_IMAGE_PX and config.model.name is None and config.model.weights == "auto":
        return (
            "scratch",
            f"the images are small (up to {facts.largest_side} px), so a small network learns them directly",
        )
    by_steps = [name for name, recipes in unused_settings(config, "head").items() if "finetune" in recipes]
    if by_steps:
        return "finetune", f"{', '.join(by_steps)} only act where the network itself is trained"
    return (
        "head",
        "pretrained features with a linear head are the fastest good start for photos; finetune may add some points",
    )


def _plan_precision(recipe: Recipe, device: Device, has_bfloat16: bool) -> Precision:
    if device == "cuda" and recipe != "head":
        return "bfloat16" if has_bfloat16 else "float16"
    return "bfloat16" if has_bfloat16 and recipe == "finetune" else "float32"


def _plan_model(model: ModelConfig, recipe: Recipe, facts: ImageFacts, reasons: list[str]) -> ModelConfig:
    if recipe != "scratch":
        return replace(model, name=model.name or PRETRAINED, channels=model.num_channels)
    name = model.name or "resnet8"
    if model.name is None:
        reasons.append("network resnet8: small and fast; --model takes any other: recog models lists them")
    own, is_module = own_network(name), name.startswith(PREFIX)
    is_small = own is not None and own.weights is None  # made for small images, so it takes them in their own size
    size = model.image_size
    if size is None and (is_small or is_module):
        small = facts.one_size if facts.one_size and facts.largest_side <= SMALL_IMAGE_PX else None
        if model.name is None:
            size = small or (min(SMALL_IMAGE_PX, facts.largest_side),) * 2
        elif small and (own is None or own.takes(small)):
            size = small
    channels = model.channels or (1 if (is_small or is_module) and facts.all_grey else 3)
    return replace(model, name=name, channels=channels, weights="none", image_size=size)


def _plan_training(config: TrainConfig, dataset: Dataset, facts: ImageFacts, reasons: list[str]) -> TrainConfig:
    fine = config.recipe == "finetune"
    fits = config.model.image_size is not None and facts.one_size == config.model.image_size and not fine
    augment = replace(
        config.augment,
        policy=config.augment.policy or "standard",
        geometry=config.augment.geometry or ("warp" if fits else "crop"),
        mirror=dataset.mirror if config.augment.mirror is None else config.augment.mirror,
    ).filled()
    optim = replace(
        config.optim.filled(fine_tuning=fine),
        epochs=config.optim.epochs or _plan_epochs(fine, len(dataset.samples)),
        freeze_batch_norm=fine if config.optim.freeze_batch_norm is None else config.optim.freeze_batch_norm,
    )
    if config.optim.lr is None:
        start = "pretrained weights" if fine else "random weights"
        reasons.append(f"optimiser {optim.name}: learning rate {optim.lr:g}, the usual one from {start}")
    if config.stop.measure == "val_map" and dataset.task == "multiclass":
        raise ConfigError(
            "stop.measure is val_map, which is of images with several labels; these have one each: take val_nll or val_accuracy."
        )
    batch_size = config.loader.batch_size or (32 if fine else 64)
    return replace(
        config,
        augment=augment,
        loss=config.loss.planned(dataset.task),
        optim=optim,
        schedule=config.schedule.filled(),
        loader=replace(config.loader, batch_size=batch_size),
    )


def _plan_epochs(fine: bool, num_images: int) -> int:
    """Enough steps for small data, not more passes than large data need."""
    if fine:
        return 8 if num_images < 5000 else 4
    return 40 if num_images < 10_000 else 20


def describe_data(dataset: Dataset, facts: ImageFacts) -> list[str]:
    """What was understood of the data, in lines for a person."""
    sizes = _describe_sizes(facts.sizes)
    grey = ", grey" if facts.all_grey else ""
    names = ", ".join(dataset.class_names[:8]) + (", ..." if len(dataset.class_names) > 8 else "")
    kinds = "labels, none to several an image" if dataset.task == "multilabel" else "classes"
    return [
        f"{dataset.name}: {dataset.layout}, {len(dataset.samples):,} images, {sizes}{grey}",
        f"{len(dataset.class_names)} {kinds}: {names}",
        *dataset.notes,
    ]


def _describe_sizes(sizes: Sequence[tuple[int, int]]) -> str:
    heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
    if len(set(sizes)) == 1:
        return f"{widths[0]} x {heights[0]} px"
    return f"{min(widths)}-{max(widths)} x {min(heights)}-{max(heights)} px"
