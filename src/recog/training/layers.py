"""The layers of a network from its input to its head: what layer-wise rates and freezing count by."""

from __future__ import annotations

from timm.models._manipulate import group_parameters
from torch import nn

from recog.core.errors import ConfigError


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
