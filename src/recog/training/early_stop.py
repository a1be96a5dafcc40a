"""Early stopping, as a function of what was measured after each epoch so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recog.core.errors import ConfigError

Measure = Literal["val_accuracy", "val_nll", "val_map", "train_loss"]  # val_map: multi-label only
HIGHER_IS_BETTER: frozenset[Measure] = frozenset({"val_accuracy", "val_map"})


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    patience: int = 0  # epochs without a gain after which training stops; 0 trains all epochs
    measure: Measure = "val_nll"
    min_gain: float = 0.0  # what the measure must gain over its best to count

    def __post_init__(self) -> None:
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
            f"stopped after epoch {self.epoch} of {self.num_epochs}: {self.measure} has not been better than {self.best:.4g} "
            f"since epoch {self.best_epoch}"
        )


def early_stop(values: Sequence[float], config: StopConfig, *, num_epochs: int) -> EarlyStopped | None:
    """Whether to stop after the epochs whose measure was `values`, the first epoch's first. None to go on."""
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
