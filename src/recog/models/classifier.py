"""The network as everything after Preprocess sees it: uint8 images in, logits and features out."""

from __future__ import annotations

import torch
from torch import nn

# Memory is the limit, so levels are normalised a part at a time: few enough for the processor's cache, and for torch to see
# no reason to start threads
_PART_LEVELS = 1 << 15


class Classifier(nn.Module):
    """A plain network behind its normalisation, which is the first operation and so cannot be forgotten or done twice.

    `network` follows timm's contract: forward_features, forward_head(pre_logits=True), get_classifier. Its weights are what a
    bundle's model.safetensors holds. `mean` and `std` are per channel on the scale [0, 1].
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.channel_mean, self.channel_std = mean, std
        self.register_buffer("mean", 255 * torch.tensor(mean), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)), persistent=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [B, H, W, C] -> logits float32 [B, K], features float32 [B, D]."""
        maps = self.network.forward_features(self.normalise(images))  # type: ignore[operator]
        features = self.network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return self.classifier(features), features

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, C] -> float32 [B, C, H, W], as the plain network takes them."""
        return normalise(images, self.mean, self.scale)

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer, features [B, D] -> logits [B, K]."""
        layer: nn.Linear = self.network.get_classifier()  # type: ignore[operator]
        return layer

    @property
    def device(self) -> torch.device:
        return self.mean.device


def normalise(images: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(images - mean) * scale, uint8 [B, H, W, C] -> [B, C, H, W] in channels-last strides; `mean` and `scale` float [C]."""
    # over rows of W * C levels, as torch takes many times as long where the innermost axis that it broadcasts over is only
    # C long
    width = images.shape[2]
    rows, mean, scale = images.flatten(2), mean.repeat(width), scale.repeat(width)
    is_traced = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if images.device.type != "cpu" or is_traced:
        normal = rows.to(mean.dtype).sub_(mean).mul_(scale)
    else:
        normal = torch.empty(rows.shape, dtype=mean.dtype)
        part = max(1, _PART_LEVELS // len(mean))
        levels, out = rows.flatten(0, 1), normal.flatten(0, 1)
        for start in range(0, len(levels), part):
            out[start : start + part].copy_(levels[start : start + part]).sub_(mean).mul_(scale)
    return normal.view(images.shape).permute(0, 3, 1, 2)
