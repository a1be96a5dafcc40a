"""The layer that class-activation maps are read from, chosen by what a pass through the network shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.models.classifier import Classifier
from recog.training.fit import eval_mode

MIN_POSITIONS = 16  # 4 x 4; below, a map shows no place, and an earlier layer is taken
_MAX_PREFIX = 8  # class and register tokens before the patches
_WITHOUT_MAPS = (nn.Identity, nn.Dropout, nn.Softmax)
_WITHIN_A_BLOCK = (nn.Linear, nn.GELU, nn.ReLU, nn.SiLU)  # of networks of tokens: the residual stream is around them


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a tensor holds maps of `grid` = (height, width) positions."""

    kind: Literal["channels-first", "channels-last", "tokens"]
    grid: tuple[int, int]
    num_prefix: int = 0  # tokens before those of the image

    def as_maps(self, output: torch.Tensor) -> torch.Tensor:
        """The tensor as float [B, C, h, w]."""
        if self.kind == "channels-first":
            return output
        if self.kind == "channels-last":
            return output.permute(0, 3, 1, 2)
        tokens = output[:, self.num_prefix :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], *self.grid)

    @property
    def num_positions(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The output of the module `name` of a network in the call of this number, from 0."""

    name: str
    call: int
    layout: Layout


def choose_layer(classifier: Classifier, image_size: tuple[int, int]) -> Layer:
    """The last output of at least 4 x 4 positions that the features depend on position by position.

    Found by one pass of one image and its gradients, so that no list of architectures is needed: of a ViT that reads its class
    token, the last block's output at the patches has no gradient, and the input of its attention is taken. ConfigError where
    there is none.
    """
    network = classifier.network
    outputs: list[tuple[Layer, torch.Tensor]] = []
    num_calls: dict[str, int] = {}

    def keep(name: str, module: nn.Module, output: object) -> None:
        number = num_calls[name] = num_calls.get(name, -1) + 1
        if not isinstance(output, torch.Tensor) or isinstance(module, _WITHOUT_MAPS):
            return
        layout = (
            None if output.ndim == 3 and isinstance(module, _WITHIN_A_BLOCK) else layout_of(output, network, image_size)
        )
        if output.requires_grad and layout is not None:
            outputs.append((Layer(name=name, call=number, layout=layout), output))

    image = torch.linspace(
        -1, 1, len(classifier.channel_mean) * image_size[0] * image_size[1], device=classifier.device
    )
    image = image.reshape(1, -1, *image_size).requires_grad_()
    with eval_mode(classifier), torch.enable_grad(), _hooks(network, keep):
        features = classifier.forward_normalised(image)[1]
        # of the features, as heads may begin at 0; unequally weighted, as the sums of normalised ones are constant
        weights = torch.cos(torch.arange(features.shape[1], device=features.device))
        tensors = [output for _, output in outputs]
        gradients = torch.autograd.grad((features * weights).sum(), tensors, allow_unused=True) if tensors else ()
    found = [
        layer
        for (layer, _), gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and bool(layer.layout.as_maps(gradient).abs().max() > 0)
    ]
    for layer in reversed(found):
        if layer.layout.num_positions >= MIN_POSITIONS:
            return layer
    if found:
        return max(found, key=lambda layer: layer.layout.num_positions)
    kinds = sorted({type(module).__name__ for module in network.modules() if not list(module.children())})
    raise ConfigError(
        f"{type(network).__name__} has no layer whose output holds positions of the image; it consists of "
        f"{', '.join(kinds[:12])}. Use occlusion, rise, gradients, smoothgrad or integrated-gradients."
    )


def layout_of(output: torch.Tensor, network: nn.Module, image_size: tuple[int, int]) -> Layout | None:
    """How `output` holds maps of an image of (height, width); None where it does not."""
    if output.ndim == 4:
        height, width = output.shape[2:]
        if _fits((height, width), image_size):
            return Layout(kind="channels-first", grid=(height, width))
        height, width = output.shape[1:3]
        if _fits((height, width), image_size):
            return Layout(kind="channels-last", grid=(height, width))
    if output.ndim == 3:
        stated = getattr(network, "num_prefix_tokens", None)
        for num_prefix in [stated] if isinstance(stated, int) else range(_MAX_PREFIX + 1):
            grid = _grid_of(output.shape[1] - num_prefix, image_size)
            if grid is not None:
                return Layout(kind="tokens", grid=grid, num_prefix=num_prefix)
    return None


def _grid_of(num_tokens: int, image_size: tuple[int, int]) -> tuple[int, int] | None:
    """(height, width) of `num_tokens` positions in the shape of the image; None where they do not fill one."""
    if num_tokens < 2:
        return None
    height = round(math.sqrt(num_tokens * image_size[0] / image_size[1]))
    grid = (height, num_tokens // max(1, height))
    return grid if grid[0] * grid[1] == num_tokens and _fits(grid, image_size) else None


def _fits(grid: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a grid may be the image at a lower resolution: more than one position, the same shape up to rounding."""
    (h, w), (height, width) = grid, image_size
    return h * w > 1 and h <= height and w <= width and abs(h - w * height / width) <= 1


@contextmanager
def _hooks(network: nn.Module, keep: Callable[[str, nn.Module, object], None]) -> Iterator[None]:
    """`keep(name, module, output)` is called after each module; the hooks are gone afterwards, even if the block raises."""

    def hook_of(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: object, output: object) -> None:
            keep(name, module, output)

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in network.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter records gradients in the block, and evaluation mode; both are afterwards as before."""
    recording = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with eval_mode(module):
        try:
            for parameter in recording:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in recording:
                parameter.requires_grad_(True)
