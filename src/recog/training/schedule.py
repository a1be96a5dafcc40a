"""Learning rate by step, and early stopping by epoch, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

from recog.core.errors import ConfigError

ScheduleName = Literal["cosine", "one-cycle", "step", "linear", "constant"]
WARMUP_FRACTION = 0.15
ONE_CYCLE_RISE = 0.3  # torch's OneCycleLR


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    name: ScheduleName | None = None  # planned if None
    warmup_fraction: float | None = None  # of all steps; planned if None
    milestones: tuple[float, ...] = (
        0.5,
        0.75,
    )  # of all steps: where `step` drops, as He et al. (2015) did for CIFAR-10
    gamma: float = 0.1  # what `step` multiplies the rate by at each milestone
    small_fraction: float | None = None  # of all steps, the first ones, with smaller images; planned if None
    small_scale: float = 0.625  # of the sides of those, over the network's input: 20 px where that is 32

    def __post_init__(self) -> None:
        if self.warmup_fraction is not None and not 0 <= self.warmup_fraction < 1:
            raise ConfigError(f"schedule.warmup_fraction is {self.warmup_fraction}; it must be at least 0 and below 1.")
        rising = all(low < high for low, high in zip((0.0, *self.milestones), (*self.milestones, 1.0), strict=True))
        if not rising:
            raise ConfigError(
                f"schedule.milestones is {self.milestones}; they are fractions of all steps, above 0 and below 1, in rising "
                "order, such as [0.5, 0.75]."
            )
        if self.small_fraction is not None and not 0 <= self.small_fraction < 1:
            raise ConfigError(f"schedule.small_fraction is {self.small_fraction}; it must be at least 0 and below 1.")
        if not 0 < self.small_scale <= 1:
            raise ConfigError(f"schedule.small_scale is {self.small_scale}; it must be above 0 and at most 1.")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"schedule.gamma is {self.gamma}; it must be above 0 and at most 1.")

    def filled(
        self,
        *,
        usual: ScheduleName = "cosine",
        warmup_fraction: float = WARMUP_FRACTION,
        small_fraction: float = 0.0,
    ) -> SchedulePlan:
        """With the `usual` schedule and its warm-up where nothing is set; another schedule has its own."""
        name = self.name or usual
        if name != usual:
            warmup_fraction = ONE_CYCLE_RISE if name == "one-cycle" else WARMUP_FRACTION
        warmup = warmup_fraction if self.warmup_fraction is None else self.warmup_fraction
        small = small_fraction if self.small_fraction is None else self.small_fraction
        return SchedulePlan(**vars(self) | {"name": name, "warmup_fraction": warmup, "small_fraction": small})


@dataclass(frozen=True, kw_only=True)
class SchedulePlan(ScheduleConfig):
    """Every setting has a value."""

    name: ScheduleName
    warmup_fraction: float
    small_fraction: float

    @property
    def step_cost(self) -> float:
        """Of a step on average, over one with images of the full size: in proportion to the pixels."""
        return 1 - self.small_fraction * (1 - self.small_scale**2)

    def small_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the smaller images where the network takes `image_size`."""
        height, width = image_size
        return max(1, round(height * self.small_scale)), max(1, round(width * self.small_scale))


def build_schedule(config: SchedulePlan, *, num_steps: int, peak_lr: float) -> Callable[[int], float]:
    """The learning rate as a function of the steps done, 0 to `num_steps` - 1."""
    rate = SCHEDULES[config.name]
    if config.name == "step":
        rate = partial(step_lr, milestones=config.milestones, gamma=config.gamma)
    num_warmup_steps = round(config.warmup_fraction * num_steps)
    return partial(rate, num_steps=num_steps, num_warmup_steps=num_warmup_steps, peak_lr=peak_lr)


def cosine_lr(step: int, *, num_steps: int, num_warmup_steps: int, peak_lr: float) -> float:
    """Linear warm-up to `peak_lr`, then half a cosine down to 0 at `num_steps`. Loshchilov and Hutter (2017), SGDR."""
    if step < num_warmup_steps:
        return warmup_lr(step, num_warmup_steps=num_warmup_steps, peak_lr=peak_lr)
    return 0.5 * peak_lr * (1 + math.cos(math.pi * _progress(step, num_steps, num_warmup_steps)))


def one_cycle_lr(step: int, *, num_steps: int, num_warmup_steps: int, peak_lr: float) -> float:
    """Up from `peak_lr` / 25 and down to a ten-thousandth of that at the last step, both by half a cosine, as torch's
    OneCycleLR does by default but for the momentum, which stays. Smith and Topin (2018), "Super-Convergence".
    """
    lowest = peak_lr / 25
    top = max(0, num_warmup_steps - 1)
    if step <= top:
        return _between(lowest, peak_lr, step / top if top else 1.0)
    return _between(peak_lr, lowest / 1e4, (step - top) / max(1, num_steps - 1 - top))


def step_lr(
    step: int,
    *,
    num_steps: int,
    num_warmup_steps: int,
    peak_lr: float,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
) -> float:
    """Linear warm-up to `peak_lr`, then times `gamma` at each of the `milestones`, fractions of all steps."""
    drops = sum(step >= round(milestone * num_steps) for milestone in milestones)
    rate = peak_lr * gamma**drops
    if step < num_warmup_steps:
        return min(rate, warmup_lr(step, num_warmup_steps=num_warmup_steps, peak_lr=peak_lr))
    return rate


def linear_lr(step: int, *, num_steps: int, num_warmup_steps: int, peak_lr: float) -> float:
    """Linear warm-up to `peak_lr`, then a straight line down to 0 at `num_steps`."""
    if step < num_warmup_steps:
        return warmup_lr(step, num_warmup_steps=num_warmup_steps, peak_lr=peak_lr)
    return peak_lr * (1 - _progress(step, num_steps, num_warmup_steps))


def constant_lr(step: int, *, num_steps: int, num_warmup_steps: int, peak_lr: float) -> float:
    """Linear warm-up to `peak_lr`, which then stays."""
    if step < num_warmup_steps:
        return warmup_lr(step, num_warmup_steps=num_warmup_steps, peak_lr=peak_lr)
    return peak_lr


def warmup_lr(step: int, *, num_warmup_steps: int, peak_lr: float) -> float:
    """1/n, 2/n, ... of `peak_lr`: no step is wasted at 0. Goyal et al. (2017), section 2.2."""
    return peak_lr * (step + 1) / num_warmup_steps


def _progress(step: int, num_steps: int, num_warmup_steps: int) -> float:
    return (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)


def _between(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


SCHEDULES: Mapping[ScheduleName, Callable[..., float]] = MappingProxyType(
    {"cosine": cosine_lr, "one-cycle": one_cycle_lr, "step": step_lr, "linear": linear_lr, "constant": constant_lr}
)
"""Each is a function of the step with num_steps, num_warmup_steps and peak_lr."""


Measure = Literal["val_accuracy", "val_nll", "val_map", "train_loss"]  # val_map: multi-label only
HIGHER_IS_BETTER: frozenset[Measure] = frozenset({"val_accuracy", "val_map"})


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    patience: int = 0  # epochs without a gain after which training stops; 0 trains all epochs
    measure: Measure = "val_nll"
    min_gain: float = 0.0  # what the measure must gain over its best to count
    max_steps: int | None = (
        None  # training ends after so many, though its schedule is for more; where a budget ended it
    )

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"stop.max_steps is {self.max_steps}; it must be 1 or more.")
        if self.patience < 0:
            raise ConfigError(
                f"stop.patience is {self.patience}; it must be 0 (never stop early) or a number of epochs."
            )
        if not 0 <= self.min_gain < math.inf:
            raise ConfigError(f"stop.min_gain is {self.min_gain}; it must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class EarlyStopped:
    """Why training ended before its last epoch."""

    epoch: int  # from 1, the last that was trained
    num_epochs: int  # that were planned
    measure: Measure
    best: float
    best_epoch: int

    def __str__(self) -> str:
        return (
            f"stopped after epoch {self.epoch} of {self.num_epochs}: {self.measure} has not improved on {self.best:.4g} "
            f"since epoch {self.best_epoch}"
        )


def early_stop(values: Sequence[float], config: StopConfig, *, num_epochs: int) -> EarlyStopped | None:
    """Why to stop after the epochs whose measure was `values`, in their order; None to continue."""
    if not config.patience or not values or len(values) >= num_epochs:
        return None
    sign = 1 if config.measure in HIGHER_IS_BETTER else -1
    best = 0
    for epoch, value in enumerate(values):
        if sign * (value - values[best]) > config.min_gain:
            best = epoch
    if len(values) - 1 - best < config.patience:
        return None
    return EarlyStopped(
        epoch=len(values), num_epochs=num_epochs, measure=config.measure, best=values[best], best_epoch=best + 1
    )
