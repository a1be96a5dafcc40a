"""The plan of a run: every setting that the user left open is decided from the data and the machine, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.core.hardware import Hardware
from recog.core.task import Task
from recog.core.text import plural, visible
from recog.data.augment.policies import AugmentConfig
from recog.data.dataset import Dataset
from recog.data.inspection import ImageFacts
from recog.data.split import SplitConfig
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.trust.calibration import CalibrationConfig
from recog.models.config import OWN_MODULE_PREFIX, ModelConfig
from recog.models.table import own_network
from recog.recipes.config import (
    ComputeConfig,
    LoaderConfig,
    Recipe,
    TrainConfig,
    check_all_used,
    describe_noisy_labels,
    unused_settings,
)
from recog.recipes.from_scratch import candidate_precision, choose_network, scratch_defaults_for, suited_threads
from recog.training.config import HEAD_METHODS, SMOOTHING, Device, HeadConfig, LossPlan, OptimPlan, Precision
from recog.training.schedule import SchedulePlan

MAX_VAL_IMAGES, MAX_VAL_PER_CLASS = 2500, 5  # that are carved: accuracy's 95 % interval is 2 points either way at most
SMALL_IMAGE_PX = 64  # up to here a network of our own from scratch beats features made for 224 px
FEW_SMALL_PHOTOS = 2000  # fewer small photos than this go by pretrained features (benchmarks/small_photos.py)
MIN_PHOTO_PX = 24  # smaller images are icons or patterns
CIFAR10_CLASSES = frozenset(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])
PRETRAINED = "tf_efficientnet_lite0"
LARGE_PHOTO_PX = (
    200  # half of the photos have shorter sides of this or more; enlarged small ones lose (benchmarks/head_features.py)
)


@dataclass(frozen=True, kw_only=True)
class HeadInput:
    """What a head on frozen features may read: a network with packaged weights, at an input size."""

    name: str
    side_px: int
    mirror: bool = False
    cost: float  # of an image, over that of the first

    @property
    def image_size(self) -> tuple[int, int]:
        return self.side_px, self.side_px

    def __str__(self) -> str:
        return f"{self.name}, {self.side_px} px{', mirrored too' if self.mirror else ''}"


# A network sees objects larger in training's random crops than at test: after Touvron et al. (2019), "Fixing the train-test
# resolution discrepancy", features are better at up to 1.28 times the side that it was trained at
HEAD_INPUTS = (  # from the cheapest on
    HeadInput(name=PRETRAINED, side_px=224, cost=1.0),
    HeadInput(name=PRETRAINED, side_px=288, cost=1.8),
    HeadInput(name="tf_efficientnet_lite2", side_px=260, cost=2.0),
    HeadInput(name="tf_efficientnet_lite1", side_px=288, cost=2.3),
    HeadInput(name="tf_efficientnet_lite2", side_px=320, cost=2.6),
)
PHOTO_INPUT = HEAD_INPUTS[3]  # of large photos, see benchmarks/head_features.py


@dataclass(frozen=True, kw_only=True)
class ComputePlan(ComputeConfig):
    num_threads: int
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class LoaderPlan(LoaderConfig):
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Plan(TrainConfig):
    """A TrainConfig in which every setting that the run reads has a value: what run.toml holds."""

    recipe: Recipe
    compute: ComputePlan


@dataclass(frozen=True, kw_only=True)
class StepsPlan(Plan):
    """The plan of a network that learns by gradient steps: recipes `finetune` and `scratch`."""

    loader: LoaderPlan
    loss: LossPlan
    optim: OptimPlan
    schedule: SchedulePlan

    @property
    def images_per_step(self) -> int:
        return self.loader.batch_size * self.optim.accumulation


def plan(
    config: TrainConfig,
    dataset: Dataset,
    facts: ImageFacts,
    hardware: Hardware,
    *,
    has_bfloat16: bool,
    device: Device = "cpu",
) -> tuple[Plan, list[str]]:
    """`config` with every open setting decided, and the reasons for the decisions. A Plan stays as it is.

    `device` is the one that `config.compute.device` resolves to on this machine, and `has_bfloat16` is about that one.
    """
    has_val = config.split.mode != "none" or bool(dataset.subset("val"))
    recipe, reasons = choose_recipe(config, facts, has_val=has_val)
    if not has_val and recipe != "head":
        raise ConfigError(
            f"recipe {recipe} selects the best epoch on a validation split, and --split none carves none. Use --recipe head "
            "--split none, remove --split none, or give a validation split."
        )
    check_all_used(config, recipe)
    reasons += [_describe_no_split(dataset, has_val=has_val)] if config.split.mode == "none" else []
    reasons += describe_noisy_labels(config, recipe, dataset, has_val=has_val)
    fine = recipe == "finetune"
    if config.head.method not in (None, *HEAD_METHODS[dataset.task]):
        raise ConfigError("head.method is ridge, which needs one class per image; use logistic for several labels.")
    num_images = len(dataset.subset("train")) or len(dataset.samples)
    model, of_network = _plan_model(config.model, recipe, facts, num_images)
    reasons += of_network
    calibration, of_classes = _plan_threshold(config.calibration, dataset)
    reasons += of_classes
    decided = vars(config) | {
        "recipe": recipe,
        "calibration": calibration,
        "model": model,
        "compute": ComputePlan(
            device=device,
            num_threads=config.compute.num_threads or suited_threads(model, recipe, hardware.num_cores),
            precision=config.compute.precision or candidate_precision(device, has_bfloat16)
            if recipe != "head"
            else "float32",
        ),
    }
    if recipe == "head":
        return Plan(**decided), reasons
    if fine:
        decided["head"] = _head_to_train(config.head)
    if config.stop.measure not in TASK_MEASURES[dataset.task].stop_measures:
        raise ConfigError(
            "stop.measure is val_map, which needs multi-label images; these have one label each: use val_nll or val_accuracy."
        )
    usual = None if fine else scratch_defaults_for(config, model, num_images)
    if usual is None:
        optim = config.optim.filled(epochs=8 if num_images < 5000 else 4, fine_tuning=True)
    else:
        optim = replace(config.optim, name=usual.optimizer).filled(epochs=usual.epochs, usual=usual.optim)
    if config.optim.lr is None:
        start = "random weights" if usual else "pretrained weights"
        reasons.append(f"optimiser {optim.name}: learning rate {optim.lr:g}, the default from {start}")
    fits = model.image_size is not None and facts.one_size == model.image_size and not fine
    fits = fits or model.crop_mode == "squash"
    own = own_network(str(model.name))
    knows_photos = fine and (own is None or own.weights is not None)
    augment = _plan_augment(config.augment, dataset, facts, fits=fits, knows_photos=knows_photos)
    reasons += [_describe_augment(augment), *config.adversarial.reasons(dataset.task)]
    batch_size = config.loader.batch_size or (usual.batch_size if usual else 32)
    steps = StepsPlan(
        **decided
        | {
            "augment": augment,
            "loader": LoaderPlan(**vars(config.loader) | {"batch_size": batch_size}),
            "loss": config.loss.filled(dataset.task, smoothing=usual.label_smoothing if usual else SMOOTHING),
            "optim": optim,
            "schedule": usual.fill_schedule(config.schedule) if usual else config.schedule.filled(),
        }
    )
    return steps, reasons


def _plan_threshold(wanted: CalibrationConfig, dataset: Dataset) -> tuple[CalibrationConfig, list[str]]:
    """With the positive class by name; ConfigError where the data have no two classes, or not that one."""
    names = dataset.class_names
    if not wanted.threshold:
        return wanted, []
    if why := _NO_THRESHOLD[dataset.task](names):
        raise ConfigError(
            f"--threshold is {wanted.threshold}, which decides between two classes; {visible(dataset.name)} {why}. "
            "Leave --threshold out."
        )
    if wanted.positive and wanted.positive not in names:
        raise ConfigError(
            f"--positive is {visible(wanted.positive)!r}, and the two classes are {visible(', '.join(names))}."
            f"{did_you_mean(wanted.positive, names)}"
        )
    positive = wanted.positive or names[1]
    why = "" if wanted.positive else f", the second of the two (--positive {visible(names[0])} for the other)"
    return replace(wanted, positive=positive), [
        f"threshold {wanted.threshold}: positive class {visible(positive)}{why}"
    ]


def _not_two(class_names: Sequence[str]) -> str:
    num_classes = plural(len(class_names), "class", "classes")
    return "" if len(class_names) == 2 else f"has {num_classes}, and its most probable class is predicted"


_NO_THRESHOLD: Mapping[Task, Callable[[Sequence[str]], str]] = MappingProxyType(  # why none can be chosen
    {"multiclass": _not_two, "multilabel": lambda class_names: "has a threshold for every label already, chosen by F1"}
)


def _head_to_train(head: HeadConfig) -> HeadConfig:
    """Of a network whose weights are trained on from it."""
    if head.mirror:
        raise ConfigError("head.mirror is for recipe head; remove it, or use --recipe head.")
    if head.method == "ridge":
        raise ConfigError(
            "head.method is ridge, but recipe finetune trains on from the head, and ridge regression's logits have no scale for "
            "that: training would diverge. Remove head.method, or use --recipe head."
        )
    return replace(head, layers=head.layers or "last", method="logistic")  # a plain network, which timm loads


def _are_few_photos(facts: ImageFacts) -> bool:
    """Colour images of more than an icon's size, so few that pretrained features surpass a network of their own."""
    is_photo = not facts.all_grey and facts.median_short_side >= MIN_PHOTO_PX
    return is_photo and len(facts.sizes) < FEW_SMALL_PHOTOS


def choose_recipe(config: TrainConfig, facts: ImageFacts, *, has_val: bool = True) -> tuple[Recipe, list[str]]:
    """The recipe that `config` names, or that suits the network and the images, with the reason.

    Without a validation split, small images are no reason to train from scratch.
    """
    if config.recipe is not None:
        return config.recipe, []
    name = config.model.name or ""
    own = own_network(name)
    if config.model.weights == "none":
        return "scratch", ["recipe scratch: no pretrained weights were requested"]
    if name.startswith(OWN_MODULE_PREFIX):
        return "scratch", ["recipe scratch: a custom module is trained in full, starting from its current weights"]
    if own is not None and own.weights is None and config.model.weights == "auto":
        return "scratch", [f"recipe scratch: {name} has no published weights"]
    by_steps = [setting for setting, recipes in unused_settings(config, "head").items() if "finetune" in recipes]
    if facts.largest_side <= SMALL_IMAGE_PX and has_val and not name and config.model.weights == "auto":
        size = f"the images are small (up to {facts.largest_side} px)"
        if _are_few_photos(facts) and not by_steps:
            few = f"{size} and few ({len(facts.sizes):,}), where pretrained features are more accurate than a small network"
            return "head", [f"recipe head: {few}; --recipe scratch trains one"]
        return "scratch", [f"recipe scratch: {size}, so a small network is trained from scratch"]
    if by_steps:
        return "finetune", [
            f"recipe finetune: set by {', '.join(by_steps)}, for the whole network; without: recipe head"
        ]
    if not has_val:
        return "head", ["recipe head: it needs no validation split"]
    return "head", [
        "recipe head: a linear head on pretrained features, fast and accurate on photos; --recipe finetune trains all weights"
    ]


def _describe_no_split(dataset: Dataset, *, has_val: bool) -> str:
    if has_val:
        return "--split none: no split is carved; the given validation split selects and calibrates the model"
    measured = "the given test split measures it"
    if "test" not in dataset.given_splits:
        measured = "the accuracy in the report is cross-validated, as no image is left to test on"
    return f"--split none: the head is chosen and calibrated by cross-validation, then fitted on all training images; {measured}"


def plan_split(split: SplitConfig, dataset: Dataset) -> SplitConfig:
    """`split` of a dataset that is not split yet, with fractions for it where nothing is set.

    The test fraction is the dataset's usual one; of many images 2,500 validate, or 5 of each class, so that the others can
    be trained on.
    """
    if split != SplitConfig():
        return split
    if dataset.test_fraction is not None:
        split = replace(split, test_fraction=dataset.test_fraction)
    num_left = len(dataset.samples) - len(dataset.subset("test"))
    most = max(MAX_VAL_IMAGES, MAX_VAL_PER_CLASS * len(dataset.class_names))
    return replace(split, val_fraction=min(split.val_fraction, round(most / max(1, num_left), 4)))


def _plan_model(
    model: ModelConfig, recipe: Recipe, facts: ImageFacts, num_images: int
) -> tuple[ModelConfig, list[str]]:
    if recipe != "scratch":
        name, size, reasons = model.name or PRETRAINED, model.image_size, []
        is_open = model.name is None and size is None and model.weights == "auto"
        if recipe == "head" and is_open and facts.median_short_side >= LARGE_PHOTO_PX:
            name, size = PHOTO_INPUT.name, PHOTO_INPUT.image_size
        if is_open:
            reasons = [_describe_input(recipe, facts, is_large=name != PRETRAINED)]
        return replace(model, name=name, channels=model.num_channels, image_size=size), reasons
    name, reasons = model.name or "", []
    if not name:
        is_grey = facts.all_grey if model.channels is None else model.channels == 1
        side = min(model.image_size or facts.one_size or (min(SMALL_IMAGE_PX, facts.largest_side),))
        name, why = choose_network(shortest_side=side, num_images=num_images, is_grey=is_grey)
        reasons = [f"{why}; choose another with --model (see recog models)"]
    own, is_module = own_network(name), name.startswith(OWN_MODULE_PREFIX)
    is_small = own is not None and own.weights is None  # made for small images, so it takes them in their own size
    size = model.image_size
    if size is None and (is_small or is_module):
        small = facts.one_size if facts.one_size and facts.largest_side <= SMALL_IMAGE_PX else None
        if model.name is None:
            size = small or (min(SMALL_IMAGE_PX, facts.largest_side),) * 2
        elif small and (own is None or own.takes(small)):
            size = small
    channels = model.channels or (1 if (is_small or is_module) and facts.all_grey else 3)
    return replace(model, name=name, channels=channels, weights="none", image_size=size), reasons


def _plan_augment(
    augment: AugmentConfig, dataset: Dataset, facts: ImageFacts, *, fits: bool, knows_photos: bool
) -> AugmentConfig:
    """`fits`: all images have the network's input size, so that they are warped and not cropped.

    `knows_photos`: the network starts from published weights. Other small images are neither mirrored nor rotated: they may show
    digits, letters or signs.

    The container makes no difference. CIFAR's objects, known by their names, are mirrored: they keep their label.
    """
    may_show_signs = facts.largest_side <= SMALL_IMAGE_PX and not knows_photos
    mirror = not may_show_signs or set(dataset.class_names) == CIFAR10_CLASSES or dataset.name == "cifar100"
    rotation = 0.0 if may_show_signs else None  # None: the policy's
    shows_objects = fits and may_show_signs and mirror and augment.mirror is not False
    return replace(
        augment,
        policy=augment.policy or "standard",
        geometry=augment.geometry or ("translate" if shows_objects else "warp" if fits else "crop"),
        mirror=mirror if augment.mirror is None else augment.mirror,
        max_rotation_degrees=rotation if augment.max_rotation_degrees is None else augment.max_rotation_degrees,
    ).filled()


def _describe_augment(augment: AugmentConfig) -> str:
    """What augmentation does to left and right, and the settings that change it."""
    mirrored, change = ("mirrored left to right", "false") if augment.mirror else ("not mirrored", "true")
    degrees = augment.strengths.max_rotation_degrees
    rotated = f"rotated by up to {degrees:g} degrees" if degrees else "not rotated"
    return (
        f"augmentation {augment.policy}: images are {mirrored} and {rotated} "
        f"(--set augment.mirror={change}, --set augment.max_rotation_degrees={0 if degrees else 12})"
    )


def _describe_input(recipe: Recipe, facts: ImageFacts, *, is_large: bool) -> str:
    """The reason for the pretrained network, where the user named none."""
    compare = "--set head.compare=true compares"
    if is_large:
        return (
            f"network {PHOTO_INPUT}: more accurate on photos than {PRETRAINED}, at {PHOTO_INPUT.cost:g} times its cost, also in "
            f"prediction (--model {PRETRAINED}; {compare})"
        )
    if recipe != "head":
        return f"network {HEAD_INPUTS[0]}: the fastest with packaged weights (--model {PHOTO_INPUT.name})"
    return (
        f"network {HEAD_INPUTS[0]}: half of the images have a shorter side of at most {facts.median_short_side} px, and "
        f"enlarging small photos further loses accuracy; from {LARGE_PHOTO_PX} px on it is {PHOTO_INPUT} ({compare})"
    )
