"""The optimiser and its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from recog.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    MOVED: ClassVar[Mapping[str, str]] = {"label_smoothing": "loss.label_smoothing"}  # settings that lived here once

    epochs: int | None = None  # planned if None
    lr: float | None = None  # peak, reached after warm-up, of SGD with Nesterov momentum; planned if None
    head_lr_factor: float = 1.0  # the last layer's learning rate over the others'
    momentum: float = 0.9
    weight_decay: float = 5e-4  # only on parameters with two axes or more
    warmup_fraction: float = 0.15  # of all steps
    freeze_batch_norm: bool | None = (
        None  # keep the pretrained running statistics, as small data spoil them; planned if None
    )

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(f"optim.epochs is {self.epochs}; it must be 1 or more.")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ConfigError(
                f"optim.lr is {self.lr}; it must be above 0 (0.1 suits small networks, 0.01 fine-tuning)."
            )
        for name, top in (("momentum", 1.0), ("warmup_fraction", 1.0)):
            value = getattr(self, name)
            if not 0 <= value < top:
                raise ConfigError(f"optim.{name} is {value}; it must be at least 0 and below {top:g}.")
        for name in ("weight_decay", "head_lr_factor"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"optim.{name} is {value}; it must be 0 or more.")


def build_optimizer(network: nn.Module, head: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum over four groups: the head or not, decayed or not.

    Each group carries `lr_factor`, by which the schedule's rate is multiplied. Norm scales and biases are not decayed, after
    He et al. (2019), "Bag of Tricks", section 3.1.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in in_head, parameter.ndim >= 2), []).append(parameter)
    return torch.optim.SGD(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decayed else 0.0,
                "lr_factor": config.head_lr_factor if of_head else 1.0,
            }
            for (of_head, decayed), parameters in groups.items()
        ],
        lr=config.lr or 0.0,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )
