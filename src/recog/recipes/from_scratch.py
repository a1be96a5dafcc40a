"""The defaults of recipe `scratch`: network, epochs and settings of training, by the size and number of the images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from recog.models.config import ModelConfig
from recog.recipes.config import Recipe, TrainConfig
from recog.training.config import DEFAULTS, SMOOTHING, Defaults, Device, OptimizerName, Precision
from recog.training.schedule import WARMUP_FRACTION, ScheduleConfig, ScheduleName, SchedulePlan

MIN_FAST_SIDE_PX = 16  # a fast network halves the image four times
MIN_FAST_IMAGES = 2000
MIN_WIDE_IMAGES = (
    20_000  # of colour; where a network twice as costly is worth its time: benchmarks/results/cifar10_scratch.md
)
FAST_NETWORKS = ("fastnet32", "fastnet32_wide")
SEEN_IMAGES = 600_000  # by a fast network, over all epochs
FAST_EPOCHS = (12, 60)  # at least and at most
FAST_LR, FAST_BIAS_LR, FAST_HEAD_LR = 0.24, 0.02, 0.005  # the first at most
FAST_LR_PER_ROOT, FAST_LR_PER_EPOCH = 2.4, 0.01  # the larger: over the root of the number of steps, times the epochs
FAST_BATCH = 256
FAST_SMALL = 0.6  # of all steps, at 20 px where the images have 32


@dataclass(frozen=True, kw_only=True)
class ScratchDefaults:
    """What a run from random weights uses where nothing is set."""

    optimizer: OptimizerName
    optim: Defaults
    epochs: int
    batch_size: int
    label_smoothing: float = SMOOTHING
    schedule: ScheduleName = "cosine"
    warmup_fraction: float = WARMUP_FRACTION
    small_fraction: float = 0.0

    def fill_schedule(self, config: ScheduleConfig) -> SchedulePlan:
        return config.filled(
            usual=self.schedule, warmup_fraction=self.warmup_fraction, small_fraction=self.small_fraction
        )


# After Jordan (2024), airbench94_muon: momentum, smoothing, a straight line down to 0, and the rate for its 200 steps of 2,000
# images. More steps need a lower one, and images that are seen again and again a higher one (docs/speed.md). Biases and the last
# layer are left to AdamW, at rates of their own.
_FAST = Defaults(
    lr=FAST_LR,
    fine_tuning_lr=DEFAULTS["muon"].fine_tuning_lr,
    momentum=0.6,
    beta2=0.95,
    weight_decay=0.0,
    normalise_filters=True,
    accumulation=2,  # parts of 256 images: larger tensors than 32 MiB cost new memory in each step
)


def choose_network(*, shortest_side: int, num_images: int, is_grey: bool) -> tuple[str, str]:
    """The network for small images where none is named, and why."""
    if shortest_side < MIN_FAST_SIDE_PX or num_images < MIN_FAST_IMAGES:
        return "resnet8", "a small, fast network for small images"
    if is_grey or num_images < MIN_WIDE_IMAGES:
        return "fastnet32", "a network that trains fast on small images"
    return "fastnet32_wide", "an accurate network for small images; fastnet32 takes about half the time"


def scratch_defaults(
    network: str,
    *,
    num_images: int,
    optimizer: OptimizerName | None,
    epochs: int | None = None,
    shortest_side: int = MIN_FAST_SIDE_PX,
) -> ScratchDefaults:
    """The settings for `network`, the number of training images and their size; `optimizer` and `epochs` are set ones, if any."""
    if network in FAST_NETWORKS and optimizer in (None, "muon"):
        least, most = FAST_EPOCHS
        planned = max(least, min(most, round(SEEN_IMAGES / num_images)))
        num_epochs = epochs or planned
        num_steps = num_epochs * num_images / (FAST_BATCH * _FAST.accumulation)
        lr = min(FAST_LR, max(FAST_LR_PER_ROOT / math.sqrt(max(1.0, num_steps)), FAST_LR_PER_EPOCH * num_epochs))
        return ScratchDefaults(
            optimizer="muon",
            optim=replace(_FAST, lr=lr, bias_lr_factor=FAST_BIAS_LR / lr, head_lr_factor=FAST_HEAD_LR / lr),
            epochs=planned,
            batch_size=FAST_BATCH,
            label_smoothing=0.2,
            schedule="linear",
            warmup_fraction=0.0,
            small_fraction=FAST_SMALL if shortest_side >= MIN_FAST_SIDE_PX else 0.0,
        )
    name = optimizer or "sgd"
    return ScratchDefaults(
        optimizer=name, optim=DEFAULTS[name], epochs=40 if num_images < 10_000 else 20, batch_size=64
    )


def scratch_defaults_for(config: TrainConfig, model: ModelConfig, num_images: int) -> ScratchDefaults:
    """The settings for the planned `model`, by what `config` sets."""
    return scratch_defaults(
        str(model.name),
        num_images=num_images,
        optimizer=config.optim.name,
        epochs=config.optim.epochs,
        shortest_side=min(model.image_size or (MIN_FAST_SIDE_PX,)),
    )


def suited_threads(model: ModelConfig, recipe: Recipe, num_cores: int) -> int:
    """One for tiny images, such as digits of 8 px: threads would wait for each other longer than they compute."""
    is_tiny = recipe == "scratch" and max(model.image_size or (MIN_FAST_SIDE_PX,)) < MIN_FAST_SIDE_PX
    return 1 if is_tiny else num_cores


def candidate_precision(device: Device, has_bfloat16: bool) -> Precision:
    """Of gradient steps. On a CPU, bfloat16 is timed before it is used: see `recog.training.device`."""
    if device == "cuda":
        return "bfloat16" if has_bfloat16 else "float16"
    return "bfloat16" if has_bfloat16 else "float32"
