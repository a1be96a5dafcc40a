"""The network as everything after Preprocess sees it: uint8 images in, logits and features out."""

from __future__ import annotations

import torch
from torch import nn


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
    # C long; and in place, as fresh memory costs more than the arithmetic
    width = images.shape[2]
    rows = images.flatten(2).to(mean.dtype).sub_(mean.repeat(width)).mul_(scale.repeat(width))
    return rows.view(images.shape).permute(0, 3, 1, 2)
