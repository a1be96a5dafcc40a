"""Residual networks for small images: He, Zhang, Ren, Sun (2015), "Deep Residual Learning for Image Recognition", section 4.2.

Depth 6n + 2 with 16, 32 and 64 channels and parameter-free shortcuts (option A). For images of 8 to 64 px, any number of
channels; ResNet-20 has 269,722 parameters at 3 channels and 10 classes, ResNet-8 75,290.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut that strides and pads channels with zeros where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.num_new_channels = out_channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        if self.num_new_channels:
            before = self.num_new_channels // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.num_new_channels - before))
        return F.relu(y + shortcut)


class SmallResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images: float32 [B, C, H, W] -> logits [B, K]; timm's method names."""

    num_features = 64

    def __init__(self, *, blocks_per_stage: int, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks: list[nn.Module] = []
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, stride))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(self.num_features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W] -> float32 [B, 64, H/4, W/4]."""
        features: torch.Tensor = self.blocks(F.relu(self.bn1(self.conv1(images))))
        return features

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Mean over the positions, float32 [B, 64], and unless `pre_logits` the logits float32 [B, K]."""
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.fc


def resnet8(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """ResNet-8 (n = 1), the image network of MLPerf Tiny (Banbury et al., 2021), with option A shortcuts."""
    return SmallResNet(blocks_per_stage=1, num_classes=num_classes, in_chans=in_chans)


def resnet20(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """ResNet-20 (n = 3): 91.25 % on CIFAR-10 in the paper's table 6."""
    return SmallResNet(blocks_per_stage=3, num_classes=num_classes, in_chans=in_chans)
