"""TrainConfig: every setting of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from recog.core.errors import ConfigError
from recog.data.augment.policies import AugmentConfig
from recog.data.balance import Balance
from recog.data.loader import LoaderConfig
from recog.data.readers.label_format import LabelFormat
from recog.data.split import SplitConfig
from recog.data.store import BadImagePolicy
from recog.evaluation.trust.calibration import CalibrationConfig
from recog.models.build import ModelConfig
from recog.training.checkpoint import CheckpointConfig
from recog.training.device import Device, Precision
from recog.training.head import HeadConfig
from recog.training.losses import LossConfig
from recog.training.optim import OptimConfig
from recog.training.schedule import ScheduleConfig, StopConfig

Recipe = Literal["head", "finetune", "scratch"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    source: str = ""  # a folder or file, relative to the config file that names it, or a name such as digits
    bad_images: BadImagePolicy = "skip"
    label_separator: str = (
        ""  # joins the labels of an image in a CSV's cell, such as '|'; the data are multi-label then
    )
    label_columns: tuple[str, ...] = ()  # of 0 and 1, one per label; recognised if empty, but in shards
    grey16_max: int | None = None  # the 16-bit grey level that becomes 255; found in the training images if None
    fingerprint: str | None = None  # of the data that this config was planned for; a difference is reported

    def __post_init__(self) -> None:
        _ = self.labels  # valid once built

    @property
    def labels(self) -> LabelFormat:
        return LabelFormat(separator=self.label_separator, columns=self.label_columns)


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    device: Device = "auto"  # planned if auto
    num_threads: int | None = None  # of each process; planned if None
    precision: Precision | None = None  # of training's forward pass; planned if None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run. A field that is None is planned; what run.toml holds has none left."""

    recipe: Recipe | None = None
    seed: int = 0
    balance: Balance = "auto"  # of classes in training
    reference: Literal["images", "synthetic", "none"] = "images"  # what the bundle keeps to check itself with
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; it must be a whole number from 0 to 2^63 - 1.")
