"""Adapter that gives a user's own nn.Module the methods that recog requires of a network."""

from __future__ import annotations

import copy
import functools

import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.models.networks.headed import HeadedNetwork


class OwnModule(HeadedNetwork):
    """A copy of a user's module, split before its last linear layer; timm's method names.

    float32 [B, C, H, W] -> `body` -> features [B, D] -> `fc` -> logits [B, K]. Where the module does not end in a linear layer,
    its logits serve as features, and `fc` is an untrained identity.
    """

    def __init__(self, module: nn.Module, *, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        body = copy.deepcopy(module)
        parameter = next(body.parameters(), torch.zeros(()))
        images = torch.linspace(-1, 1, 2 * in_chans * image_size[0] * image_size[1], device=parameter.device)
        last = _find_last_linear(body, images.reshape(2, in_chans, *image_size), num_classes)
        self.last_name = last
        if last is None:
            fc = nn.Linear(num_classes, num_classes).to(parameter.device).requires_grad_(False)
            nn.init.eye_(fc.weight)
            nn.init.zeros_(fc.bias)
        else:
            fc = body.get_submodule(last)  # type: ignore[assignment]
            body = _replace(body, last, nn.Identity())
        self.body, self.fc = body, fc
        self.num_features = fc.in_features

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W] -> float32 [B, D]."""
        features: torch.Tensor = self.body(images)
        return features

    def own_state_dict(self) -> dict[str, torch.Tensor]:
        """The weights under the names of the user's module."""
        state: dict[str, torch.Tensor] = dict(self.body.state_dict())
        if self.last_name is not None:
            prefix = f"{self.last_name}." if self.last_name else ""
            state |= {f"{prefix}{name}": tensor for name, tensor in self.fc.state_dict().items()}
        return state


def _find_last_linear(module: nn.Module, images: torch.Tensor, num_classes: int) -> str | None:
    """The name of the linear layer whose output is the module's output; None where it ends differently.

    ConfigError unless the module returns logits [B, num_classes] for `images` float32 [B, C, H, W].
    """
    calls: list[tuple[str, tuple[torch.Tensor, ...], torch.Tensor]] = []

    def keep(name: str, _: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        calls.append((name, inputs, output))

    linear = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(functools.partial(keep, name)) for name, layer in linear]
    module.eval()
    try:
        with torch.no_grad():
            logits = module(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"the module {type(module).__name__} failed on images float32 {list(images.shape)}: {error}. Set its input size and "
            "channels with model.image_size and model.channels."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    _check_logits(type(module).__name__, logits, len(images), num_classes)
    at_the_end = [(name, inputs) for name, inputs, output in calls if output is logits]
    if not at_the_end or at_the_end[-1][1][0].ndim != 2:
        return None
    name = at_the_end[-1][0]
    return (
        name if sum(called == name for called, _, _ in calls) == 1 else None
    )  # a layer that is used twice is not split off


def _check_logits(name: str, logits: object, num_images: int, num_classes: int) -> None:
    if not isinstance(logits, torch.Tensor) or logits.shape != (num_images, num_classes):
        came = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(
            f"the module {name} returned {came} for {num_images} images; expected logits [{num_images}, {num_classes}], one "
            "column per class."
        )
    if num_classes > 1 and bool((logits >= 0).all()) and torch.allclose(logits.sum(dim=1), logits.new_ones(num_images)):
        raise ConfigError(f"the module {name} returns probabilities; expected logits. Remove the softmax at its end.")


def _replace(module: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """`module` with `layer` at `name`; `layer` itself where the name is empty."""
    if not name:
        return layer
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
    return module


def channels_of(module: nn.Module) -> int | None:
    """The input channels of the module's first convolution, where they are 1 or 3."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels if layer.in_channels in (1, 3) else None
    return None
