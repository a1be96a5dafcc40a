"""The plain shape that the early networks share: convolutions, fully connected layers, one last linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class PlainNetwork(nn.Module):
    """float32 [B, C, H, W] -> `body` -> maps -> `neck` -> features [B, D] -> `fc` -> logits [B, K]; timm's method names."""

    def __init__(self, *, body: nn.Module, neck: nn.Module, fc: nn.Linear) -> None:
        super().__init__()
        self.body, self.neck, self.fc = body, neck, fc
        self.num_features = fc.in_features

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W] -> float32 [B, C', H', W']."""
        maps: torch.Tensor = self.body(images)
        return maps

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features float32 [B, D], and unless `pre_logits` the logits float32 [B, K]."""
        features: torch.Tensor = self.neck(maps)
        return features if pre_logits else self.fc(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.fc


def num_positions(image_size: tuple[int, int], stages: Sequence[tuple[int, int, int]]) -> int:
    """Positions that are left of an image (height, width) after `stages` of (kernel, padding, pooling).

    Each stage is a convolution of stride 1, then pooling over windows side by side. ValueError where nothing is left.
    """
    height, width = image_size
    for kernel, padding, pooling in stages:
        height, width = ((side + 2 * padding - kernel + 1) // pooling for side in (height, width))
        if min(height, width) < 1:
            raise ValueError("its convolutions leave nothing of so small an image")
    return height * width
