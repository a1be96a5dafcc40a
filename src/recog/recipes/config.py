"""TrainConfig: every setting of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from recog.bundle.manifest import read_manifest
from recog.bundle.seal import RUN_CONFIG, check_files
from recog.core.config import build_config, config_to_dict, load_toml, merge, nest
from recog.core.errors import ConfigError
from recog.core.hardware import MAX_THREADS
from recog.core.images.colour import FULL_SCALE_16
from recog.core.images.image_file import ImageLimits
from recog.core.task import Task
from recog.data.augment.policies import AugmentConfig
from recog.data.balance import Balance
from recog.data.data_layout import DataLayout
from recog.data.dataset import Dataset
from recog.data.lists.label_format import LabelFormat
from recog.data.split import SplitConfig
from recog.data.store import BadImagePolicy
from recog.evaluation.trust.calibration import CalibrationConfig
from recog.models import config as models
from recog.models.config import ModelConfig
from recog.training.config import (
    AdversarialConfig,
    CheckpointConfig,
    Device,
    HeadConfig,
    LossConfig,
    OptimConfig,
    Precision,
)
from recog.training.schedule import ScheduleConfig, StopConfig

Recipe = Literal["head", "finetune", "scratch"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    source: str = ""  # a folder or file, relative to the config file that names it, or a name such as digits
    bad_images: BadImagePolicy = "auto"  # auto: skip up to 1 % or 3 files, whichever is more
    min_images: int = 0  # classes with fewer different images are left out by name
    label_separator: str = (
        ""  # joins the labels of an image in a CSV's cell, such as '|'; the data are multi-label then
    )
    label_columns: tuple[str, ...] = ()  # of 0 and 1, one per label; recognised if empty, but in shards
    task: Task | None = None  # multiclass or multilabel; found in the data if None
    names: str = ""  # encoding of names in a zip archive that states none, such as 'gbk'
    split_folders: tuple[str, ...] = ()  # such as 'train=FOLDER', where the folders' names do not tell
    classes_at_depth: int | None = None  # the level of the class folders below the source; detected if None
    label_pattern: str = ""  # such as '{label}.{}.jpg', where the label stands in the file's name
    exclude: tuple[str, ...] = ()  # files and folders to leave out, such as '*_mask.png', or CSV files that list images
    relabel: str = ""  # a CSV file with new labels of single images, as the page of recog scan --deep gives it
    group: str = ""  # what keeps images in one split: 'subfolder', a column, or a regular expression on the path
    path_column: str = ""  # columns of a list of images; found by their names if empty
    label_column: str = ""
    split_column: str = ""  # 'none': the list has no splits
    group_column: str = ""  # 'none': the list has no groups
    images: tuple[str, ...] = ()  # folders of the images of a list; found beside it if empty
    encoding: str = ""  # of the text of a list; UTF-8 if empty
    grey16_max: int | None = None  # the level of 16-bit images that becomes 255; found in the training images if None
    fingerprint: str | None = None  # of the data that this config was planned for; a difference is reported

    def __post_init__(self) -> None:
        _ = self.labels, self.layout  # valid once built
        if self.min_images < 0:
            raise ConfigError(f"data.min_images is {self.min_images}; it must be 0 or more.")

    @property
    def layout(self) -> DataLayout:
        return DataLayout(**{field.name: getattr(self, field.name) for field in fields(DataLayout)})

    @property
    def labels(self) -> LabelFormat:
        return LabelFormat(separator=self.label_separator, columns=self.label_columns, names=self.names, task=self.task)


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    batch_size: int | None = None  # images of a step, of all processes together; planned if None
    num_workers: int = 0  # processes that augment; 0 augments between the steps

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"loader.batch_size is {self.batch_size}; it must be 1 or more.")
        if self.num_workers < 0:
            raise ConfigError(f"loader.num_workers is {self.num_workers}; it must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    device: Device = "auto"  # planned if auto
    num_threads: int | None = None  # of each process; planned if None
    precision: Precision | None = None  # of training's forward pass; planned if None

    def __post_init__(self) -> None:
        if self.num_threads is not None and not 1 <= self.num_threads <= MAX_THREADS:
            raise ConfigError(f"compute.num_threads is {self.num_threads}; it must be from 1 to {MAX_THREADS}.")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    feature_map: bool = False  # the bundle's ONNX file gives the last feature map too, for maps without torch


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run. A field that is None is planned; what run.toml holds has none left."""

    recipe: Recipe | None = None
    seed: int = 0
    balance: Balance = "auto"  # of classes in training
    noisy_labels: bool = (
        False  # some training labels are wrong: leave out suspects, or of scratch use a loss that allows for it
    )
    reference: Literal["images", "synthetic", "none"] = "images"  # what the bundle keeps to check itself with
    log_to: Literal["none", "mlflow", "wandb"] = "none"  # a tracker that is told of the run too
    report_split: Literal["auto", "val"] = (
        "auto"  # what the report is measured on: test if there is one; val leaves test unopened
    )
    report_images: bool = True  # thumbnails in report.html; never with a `reference` other than images
    data: DataConfig = field(default_factory=DataConfig)
    limits: ImageLimits = field(default_factory=ImageLimits)  # of images, in training and by the bundle
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; it must be a whole number from 0 to 2^63 - 1.")


OPTIONS: Mapping[str, str] = MappingProxyType(
    {  # option of `recog train` and keyword of `recog.train`: the setting behind it
        "recipe": "recipe",
        "model": "model.name",
        "weights": "model.weights",
        "parent": "model.parent",
        "channels": "model.channels",
        "epochs": "optim.epochs",
        "lr": "optim.lr",
        "batch_size": "loader.batch_size",
        "optimizer": "optim.name",
        "seed": "seed",
        "balance": "balance",
        "noisy_labels": "noisy_labels",
        "threshold": "calibration.threshold",
        "positive": "calibration.positive",
        "workers": "loader.num_workers",
        "bad_images": "data.bad_images",
        "min_images": "data.min_images",
        "split": "split.mode",
        "report_images": "report_images",
        "log_to": "log_to",
        "split_folders": "data.split_folders",
        "classes_at_depth": "data.classes_at_depth",
        "label_pattern": "data.label_pattern",
        "exclude": "data.exclude",
        "relabel": "data.relabel",
        "group": "data.group",
        "path_column": "data.path_column",
        "label_column": "data.label_column",
        "split_column": "data.split_column",
        "group_column": "data.group_column",
        "images": "data.images",
        "encoding": "data.encoding",
        "label_separator": "data.label_separator",
        "label_columns": "data.label_columns",
        "task": "data.task",
        "names": "data.names",
        "device": "compute.device",
        "threads": "compute.num_threads",
    }
)


_NEVER_EMPTY = ("model", "weights", "parent")  # an empty one is a mistake, such as a shell variable that is not set


def given_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments of a command or function those that are options and were given: neither None nor empty."""
    given = {name: values[name] for name in OPTIONS if values.get(name) is not None}
    return {name: value for name, value in given.items() if value != "" or name in _NEVER_EMPTY}


def with_options(config: TrainConfig, options: Mapping[str, Any], settings: Mapping[str, Any]) -> TrainConfig:
    """`config` with `options`, whose keys are those of OPTIONS, over it, and `settings` such as {'optim.lr': 0.1} over both.

    ConfigError names the setting that has a wrong value.
    """
    chosen = nest({OPTIONS[name]: value for name, value in options.items()})
    if "parent" in options:
        if options["parent"] == "":
            raise ConfigError("--from (parent) is empty; name a run or a bundle, or leave it out.")
        config = replace(config, model=replace(config.model, parent_digest=""))  # of a parent that the config named
    return build_config(TrainConfig, merge(merge(config_to_dict(config), chosen), nest(settings)))


BY_STEPS: tuple[Recipe, ...] = ("finetune", "scratch")
USED_BY: Mapping[str, tuple[Recipe, ...]] = MappingProxyType(
    {  # section or setting: the recipes that read it; what is not listed is read by all
        "adversarial": BY_STEPS,
        "augment": BY_STEPS,
        "checkpoint": BY_STEPS,
        "loader": BY_STEPS,
        "loss.name": BY_STEPS,
        "loss.label_smoothing": BY_STEPS,
        "loss.focal_gamma": BY_STEPS,
        "loss.gce_q": BY_STEPS,
        "optim": BY_STEPS,
        "schedule": BY_STEPS,
        "stop": BY_STEPS,
        "head": ("head", "finetune"),
        "model.weights": ("head", "finetune"),
        "model.parent": ("head", "finetune"),
        "model.drop_rate": BY_STEPS,
        "model.drop_path_rate": BY_STEPS,
        "compute.precision": BY_STEPS,
    }
)


def unused_settings(config: TrainConfig, recipe: Recipe) -> dict[str, tuple[Recipe, ...]]:
    """The settings that differ from their defaults although `recipe` does not read them, each with the recipes that do."""
    given, default = config_to_dict(config), config_to_dict(TrainConfig())
    unused: dict[str, tuple[Recipe, ...]] = {}
    for name, recipes in USED_BY.items():
        if recipe not in recipes:
            section, _, key = name.partition(".")
            keys = [key] if key else {**given[section], **default[section]}
            unused |= {f"{section}.{k}": recipes for k in keys if given[section].get(k) != default[section].get(k)}
    if config.model.weights == "none":
        unused.pop("model.weights", None)  # asks for what recipe scratch does
    if config.compute.precision == "float32":
        unused.pop("compute.precision", None)  # what the head is fitted in
    return unused


def describe_noisy_labels(config: TrainConfig, recipe: Recipe, dataset: Dataset, *, has_val: bool) -> list[str]:
    """What `config.noisy_labels` does, in a line. `has_val`: there is a validation split, or will be.

    ConfigError where it would be ignored or its result could not be measured.
    """
    if not config.noisy_labels:
        return []
    if recipe == "scratch":
        raise ConfigError(
            "--noisy-labels ranks labels by the features of a pretrained network, which recipe scratch does not have. Use "
            "--recipe head or finetune, or leave out what recog scan --deep finds: --exclude FILE.csv."
        )
    if dataset.task != "multiclass":
        raise ConfigError(
            "--noisy-labels judges images with one class, and these have several labels. Remove it; recog scan --deep lists "
            "missing and wrong labels."
        )
    if not has_val and "test" not in dataset.given_splits:
        raise ConfigError(
            "--noisy-labels with --split none would measure accuracy on the images that it chose to keep. Remove one of the "
            "two, or give a test split."
        )
    return [
        "noisy labels: training images whose label all three views of the frozen features contradict are left out; other "
        "splits stay as they are, and cross-validated accuracies are of the images that are left"
    ]


def check_all_used(config: TrainConfig, recipe: Recipe) -> None:
    """ConfigError where a setting would be ignored by `recipe`, with the recipes that read it."""
    unused = unused_settings(config, recipe)
    if unused:
        names = ", ".join(unused)
        others = " or ".join(f"--recipe {name}" for name in next(iter(unused.values())))
        raise ConfigError(f"recipe {recipe} does not use {names}. Remove {names}, or use {others}.")


def with_parent(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """`config` with the network of the bundle that `config.model.parent` names, and its recipe where none is set; with reasons.

    Unchanged without a parent. ConfigError or BundleError where it cannot be continued.
    """
    model = models.with_parent(config.model)
    config = replace(config, model=model)
    if not model.parent:
        return config, []
    white = read_manifest(Path(model.parent)).preprocess.grey16_max
    if config.data.grey16_max is None and white != FULL_SCALE_16:
        config = replace(config, data=replace(config.data, grey16_max=white))
    if config.recipe is not None:
        return config, []
    earlier = _recipe_of(Path(model.parent))
    by_steps = [name for name, recipes in unused_settings(config, "head").items() if "finetune" in recipes]
    if earlier == "head" and not by_steps:
        reason = "recipe head: the parent was trained by it; --recipe finetune trains its whole network"
        return replace(config, recipe="head"), [reason]
    why = f"as the parent was trained by {earlier or 'another program'}"
    if by_steps:
        why = f"as head does not use {', '.join(by_steps)}"
    return replace(config, recipe="finetune"), [f"recipe finetune, {why}; it starts from the parent's whole network"]


def _recipe_of(bundle: Path) -> Recipe | None:
    check_files(bundle, read_manifest(bundle), (RUN_CONFIG,))
    recipe = load_toml(bundle / RUN_CONFIG).get("recipe")
    return next((known for known in get_args(Recipe) if known == recipe), None)
