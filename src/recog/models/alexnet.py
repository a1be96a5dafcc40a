"""AlexNet through torchvision, with the methods that recog asks of a network."""

from __future__ import annotations

import torch
import torchvision
from torch import nn


class AlexNet(torchvision.models.AlexNet):  # type: ignore[misc]
    """torchvision's AlexNet, its names of tensors included; timm's method names on top."""

    num_features = 4096

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W] -> float32 [B, 256, H', W']."""
        maps: torch.Tensor = self.features(images)
        return maps

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features float32 [B, 4096], and unless `pre_logits` the logits float32 [B, K]."""
        features: torch.Tensor = self.classifier[:-1](self.avgpool(maps).flatten(1))
        return features if pre_logits else self.get_classifier()(features)

    def get_classifier(self) -> nn.Module:
        layer: nn.Module = self.classifier[-1]
        return layer


def alexnet(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (224, 224)) -> nn.Module:
    """AlexNet for 224 px colour, or any size from 63 px: 61,100,840 parameters at 1,000 classes.

    Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks", a variant of Krizhevsky, Sutskever,
    Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks".
    """
    if min(image_size) < 63:
        raise ValueError("its pooling leaves nothing of so small an image")
    network = AlexNet(num_classes=num_classes)
    if in_chans != 3:
        network.features[0] = nn.Conv2d(in_chans, 64, 11, stride=4, padding=2)
    return network
