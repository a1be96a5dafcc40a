"""Optimisers by name, their settings, and the layers of a network: which parameter learns how fast, or not at all."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.models.inner_layers import InnerLayers
from recog.training.config import OptimizerName, OptimPlan

Groups = list[dict[str, Any]]
NORMALISED_NS_STEPS = 3  # airbench94_muon's: rough singular values do as well where the norms are fixed


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
        if not of_head and name.endswith("bias"):
            factor *= config.bias_lr_factor
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
    from timm.optim.muon import Muon  # as torch's takes no convolutions

    common = partial(Muon, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, betas=(0.9, config.beta2))
    if not config.normalise_filters:
        return common(groups, adjust_lr_fn="match_rms_adamw")  # AdamW's size of update: one rate serves both
    optimizer = common(groups, adjust_lr_fn="original", ns_coefficients="original", ns_steps=NORMALISED_NS_STEPS)
    optimizer.register_step_pre_hook(lambda used, *_: normalise_filters(used.param_groups))
    return optimizer


@torch.no_grad()
def normalise_filters(groups: Groups) -> None:
    """Scale the weights of each convolution to the norm that filters of norm 1 have, the square root of their number.

    BatchNorm undoes the scale. With it, a rate is the share of a layer's weights that a step of muon turns, in every layer and
    throughout training. Jordan (2024), airbench94_muon.
    """
    for group in groups:
        for parameter in group["params"]:
            if parameter.ndim == 4 and parameter.grad is not None and not group["use_fallback"]:
                parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp(min=1e-7))


OPTIMIZERS: Mapping[OptimizerName, Callable[[Groups, OptimPlan], torch.optim.Optimizer]] = MappingProxyType(
    {"sgd": _sgd, "adam": _adam, "adamw": _adamw, "rmsprop": _rmsprop, "muon": _muon}
)


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """The layer of each parameter by its name, 0 next to the image, the head's the highest.

    As timm groups its networks (`group_matcher`). In others a layer is a child with weights, or a part of one that is a
    sequence, in the order of their definition; a norm belongs to what it follows.
    """
    if isinstance(network, InnerLayers):
        of_body = {f"body.{name}": number for name, number in layer_numbers(network.body).items()}
        return of_body | {f"fc.{name}": max(of_body.values()) + 1 for name, _ in network.fc.named_parameters()}
    matcher = getattr(network, "group_matcher", None)
    if callable(matcher):
        from timm.models._manipulate import group_parameters

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
