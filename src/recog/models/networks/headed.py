"""A network of features and one linear layer on them, with timm's method names."""

from __future__ import annotations

import torch
from torch import nn


class HeadedNetwork(nn.Module):
    """float32 [B, C, H, W] -> `forward_features` [B, D] -> `fc` -> logits [B, K]. Subclasses give the first and set `fc`."""

    fc: nn.Linear

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W] -> float32 [B, D]."""
        raise NotImplementedError

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The features, or the logits float32 [B, K]."""
        return features if pre_logits else self.fc(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.fc
