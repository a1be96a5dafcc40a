"""Optimisers by name, their settings, and the layers of a network: which parameter learns how fast, or not at all."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from timm.models._manipulate import group_parameters
from timm.optim.muon import Muon
from torch import nn

from recog.core.errors import ConfigError

OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "muon"]
Groups = list[dict[str, Any]]


OnNonFinite = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: OptimizerName | None = None  # planned if None
    epochs: int | None = None  # planned if None
    lr: float | None = None  # peak, reached after warm-up; planned if None
    head_lr_factor: float = 1.0  # the last layer's learning rate over the others'
    layer_decay: float = (
        1.0  # each layer's learning rate over that of the next one towards the head; 1 is the same for all
    )
    momentum: float | None = None  # beta1 of adam and adamw; the optimiser's default if None
    nesterov: bool = True  # of sgd and muon
    beta2: float | None = None  # of adam, adamw, muon's AdamW; rmsprop's alpha; the optimiser's default if None
    weight_decay: float | None = None  # only on parameters with two axes or more; planned if None
    on_nonfinite: OnNonFinite = "stop"  # at a loss or gradient that is not finite: stop, or skip the step and count it
    accumulation: int = 1  # batches of loader.batch_size that one step is made of
    max_grad_norm: float = 0.0  # a longer gradient is shortened to this; 0 leaves it as it is
    ema_decay: float = 0.0  # of the moving average of the weights, which is then evaluated and shipped; 0 keeps none
    freeze_layers: int = 0  # the first layers, which keep their weights throughout
    freeze_epochs: int = 0  # the first epochs, in which only the head learns
    freeze_batch_norm: bool | None = (
        None  # keep the pretrained running statistics, as small data spoil them; planned if None
    )

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("accumulation", 1), ("freeze_layers", 0), ("freeze_epochs", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"optim.{name} is {value}; it must be {least} or more.")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ConfigError(f"optim.lr is {self.lr}; it must be above 0 (0.1 suits SGD, 1e-3 AdamW).")
        for name in ("momentum", "beta2", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"optim.{name} is {value}; it must be at least 0 and below 1.")
        for name in ("weight_decay", "head_lr_factor", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"optim.{name} is {value}; it must be 0 or more.")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"optim.layer_decay is {self.layer_decay}; it must be above 0 and at most 1 (0.75 suits ViT)."
            )

    def filled(self, *, epochs: int, fine_tuning: bool = False) -> OptimPlan:
        """With SGD where no optimiser is named, `epochs` and the optimiser's defaults where nothing is set."""
        name: OptimizerName = self.name or "sgd"
        usual = DEFAULTS[name]
        planned = {
            "name": name,
            "epochs": epochs,
            "lr": usual.fine_tuning_lr if fine_tuning else usual.lr,
            "momentum": usual.momentum,
            "beta2": usual.beta2,
            "weight_decay": usual.weight_decay,
            "freeze_batch_norm": fine_tuning,
        }
        return OptimPlan(**planned | {key: value for key, value in vars(self).items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class OptimPlan(OptimConfig):
    """Every setting has a value."""

    name: OptimizerName
    epochs: int
    lr: float
    momentum: float
    beta2: float
    weight_decay: float
    freeze_batch_norm: bool


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The usual settings of an optimiser."""

    lr: float  # of small networks from random weights
    fine_tuning_lr: float
    momentum: float
    beta2: float
    weight_decay: float


DEFAULTS: Mapping[OptimizerName, Defaults] = MappingProxyType(
    {
        # momentum and decay: He et al. (2015), section 3.4, with the decay that small images are usually trained with
        "sgd": Defaults(lr=0.1, fine_tuning_lr=0.003, momentum=0.9, beta2=0.0, weight_decay=5e-4),
        # Kingma and Ba (2015), algorithm 1
        "adam": Defaults(lr=1e-3, fine_tuning_lr=1e-4, momentum=0.9, beta2=0.999, weight_decay=0.0),
        # decay: Liu et al. (2022), "A ConvNet for the 2020s", table 5
        "adamw": Defaults(lr=1e-3, fine_tuning_lr=1e-4, momentum=0.9, beta2=0.999, weight_decay=0.05),
        # Tieleman and Hinton (2012), lecture 6e; decay: Tan and Le (2019), EfficientNet, section 5.2
        "rmsprop": Defaults(lr=1e-3, fine_tuning_lr=1e-4, momentum=0.0, beta2=0.9, weight_decay=1e-5),
        # Jordan (2024), "Muon": momentum 0.95 and rate 0.02, which is 0.02 / (0.2 sqrt(400)) as the update is scaled here, after
        # Liu et al. (2025), "Muon is Scalable", section 2.2, for the 400 or so inputs of a 3 x 3 convolution of 48 channels
        "muon": Defaults(lr=5e-3, fine_tuning_lr=5e-4, momentum=0.95, beta2=0.95, weight_decay=0.01),
    }
)


def build_optimizer(network: nn.Module, head: nn.Module, config: OptimPlan) -> torch.optim.Optimizer:
    """The optimiser that `config` names, over groups of parameters: the head or not, decayed or not, by layer.

    Each group carries `lr_factor`, by which the schedule's rate is multiplied. Norm scales and biases are not decayed, after
    He et al. (2019), "Bag of Tricks", section 3.1, nor what timm's networks name in `no_weight_decay`.
    """
    return OPTIMIZERS[config.name](parameter_groups(network, head, config), config)


def parameter_groups(network: nn.Module, head: nn.Module, config: OptimPlan) -> Groups:
    """Every parameter that learns, in one group each; `use_fallback` marks the head, which muon leaves to AdamW."""
    in_head = {id(parameter) for parameter in head.parameters()}
    exempt = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()  # type: ignore[operator]
    layers = layer_numbers(network)
    last = max(layers.values())
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        of_head = id(parameter) in in_head
        factor = config.head_lr_factor if of_head else config.layer_decay ** (last - layers[name])
        decayed = parameter.ndim >= 2 and not any(fnmatch.fnmatch(name, pattern) for pattern in exempt)
        groups.setdefault((of_head, decayed, factor), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "lr_factor": factor,
            "use_fallback": of_head,
        }
        for (of_head, decayed, factor), parameters in groups.items()
    ]


def _sgd(groups: Groups, config: OptimPlan) -> torch.optim.Optimizer:
    nesterov = config.nesterov and config.momentum > 0
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)


def _adam(groups: Groups, config: OptimPlan) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=config.lr, betas=(config.momentum, config.beta2))


def _adamw(groups: Groups, config: OptimPlan) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, config.beta2))


def _rmsprop(groups: Groups, config: OptimPlan) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=config.lr, alpha=config.beta2, momentum=config.momentum)


def _muon(groups: Groups, config: OptimPlan) -> torch.optim.Optimizer:
    # timm's, as torch's takes no convolutions; its scaling to AdamW's size of update lets one rate serve both
    return Muon(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        betas=(0.9, config.beta2),
        adjust_lr_fn="match_rms_adamw",
    )


OPTIMIZERS: Mapping[OptimizerName, Callable[[Groups, OptimPlan], torch.optim.Optimizer]] = MappingProxyType(
    {"sgd": _sgd, "adam": _adam, "adamw": _adamw, "rmsprop": _rmsprop, "muon": _muon}
)


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """The layer of each parameter by its name, 0 next to the image, the head's the highest.

    As timm groups its networks (`group_matcher`). In others a layer is a child with weights, or a part of one that is a
    sequence, in the order of their definition; a norm belongs to what it follows.
    """
    matcher = getattr(network, "group_matcher", None)
    if callable(matcher):
        numbers: dict[str, int] = group_parameters(network, matcher(coarse=False), reverse=True)
        return {name: numbers[name] for name, _ in network.named_parameters()}
    found: dict[str, int] = {}
    number = -1
    for prefix, layer in _layers(network):
        parameters = dict(layer.named_parameters(prefix=prefix))
        if number < 0 or any(parameter.ndim >= 2 for parameter in parameters.values()):
            number += 1
        found |= dict.fromkeys(parameters, number)
    return found | {name: 0 for name, _ in network.named_parameters(recurse=False)}


def freeze_layers(network: nn.Module, count: int) -> None:
    """Let the first `count` layers keep their weights. ConfigError where the network has no more than that."""
    if not count:
        return
    numbers = layer_numbers(network)
    num_layers = max(numbers.values()) + 1
    if count >= num_layers:
        raise ConfigError(
            f"optim.freeze_layers is {count}, and the network has {num_layers} layers with its head; it must be below that. "
            "To train the head alone: --recipe head."
        )
    for name, parameter in network.named_parameters():
        if numbers[name] < count:
            parameter.requires_grad_(False)


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            layers += [(f"{name}.{part}", layer) for part, layer in child.named_children()]
        else:
            layers.append((name, child))
    return [(name, layer) for name, layer in layers if next(layer.parameters(), None) is not None]
