"""Early and small convolutional networks: LeNet-5, the networks of common tutorials, AlexNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
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
    """Positions in the output maps of an image (height, width) after `stages` of (kernel, padding, pooling).

    Each stage is a convolution of stride 1, then non-overlapping pooling. ValueError where no position is left.
    """
    height, width = image_size
    for kernel, padding, pooling in stages:
        height, width = ((side + 2 * padding - kernel + 1) // pooling for side in (height, width))
        if min(height, width) < 1:
            raise ValueError("the image is too small for its convolutions")
    return height * width


def lenet5(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """LeNet-5 for 32 px grey images: 61,706 parameters at 10 classes.

    LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document recognition", section II.B, in today's
    form: every map of C3 is connected to all of S2, pooling has no parameters, and a linear layer replaces the RBF output.
    Images below 32 px are padded by 2, as the paper pads its 28 px digits; C5 covers all of S4.
    """
    padding = 2 if min(image_size) < 32 else 0
    positions = num_positions(image_size, ((5, padding, 2), (5, 0, 2)))
    body = nn.Sequential(
        nn.Conv2d(in_chans, 6, 5, padding=padding),  # C1
        nn.Tanh(),
        nn.AvgPool2d(2),  # S2
        nn.Conv2d(6, 16, 5),  # C3
        nn.Tanh(),
        nn.AvgPool2d(2),  # S4
    )
    neck = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16 * positions, 120),  # C5
        nn.Tanh(),
        nn.Linear(120, 84),  # F6
        nn.Tanh(),
    )
    return PlainNetwork(body=body, neck=neck, fc=nn.Linear(84, num_classes))


def cnn_6_16(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """Convolutions 6 and 16, fully connected 120 and 84, for 32 px colour: 62,006 parameters at 10 classes.

    LeNet-5 with ReLU and max-pooling: the network of PyTorch's tutorial "Training a classifier" on CIFAR-10 (2017).
    """
    positions = num_positions(image_size, ((5, 0, 2), (5, 0, 2)))
    body = nn.Sequential(
        nn.Conv2d(in_chans, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    neck = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16 * positions, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
    )
    return PlainNetwork(body=body, neck=neck, fc=nn.Linear(84, num_classes))


def cnn_32_64(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (28, 28)) -> nn.Module:
    """Convolutions 32 and 64, fully connected 128, with dropout, for 28 px grey: 1,199,882 parameters at 10 classes.

    The network of PyTorch's example for MNIST (pytorch/examples, mnist/main.py, since 2019).
    """
    positions = num_positions(image_size, ((3, 0, 1), (3, 0, 2)))
    body = nn.Sequential(
        nn.Conv2d(in_chans, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
    )
    neck = nn.Sequential(nn.Flatten(), nn.Linear(64 * positions, 128), nn.ReLU(), nn.Dropout(0.5))
    return PlainNetwork(body=body, neck=neck, fc=nn.Linear(128, num_classes))


def cnn_16_32(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (28, 28)) -> nn.Module:
    """Convolutions 16 and 32 of stride 2, fully connected 100, for 28 px grey: 166,406 parameters at 10 classes.

    The network for MNIST of Wong and Kolter (2018, arXiv:1711.00851): small enough for adversarial training on a CPU.
    """
    positions = num_positions(image_size, ((3, 1, 2), (3, 1, 2)))  # 4 x 4 at a stride of 2 leaves as many
    body = nn.Sequential(
        nn.Conv2d(in_chans, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
    )
    neck = nn.Sequential(nn.Flatten(), nn.Linear(32 * positions, 100), nn.ReLU())
    return PlainNetwork(body=body, neck=neck, fc=nn.Linear(100, num_classes))


def cnn_64_128(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """Padded convolutions 64 and 128, fully connected 1000, for 32 px colour: 8,278,658 parameters at 10 classes.

    The network of many CIFAR-10 tutorials, with no paper or year of its own.
    """
    positions = num_positions(image_size, ((3, 1, 2), (3, 1, 2)))
    body = nn.Sequential(
        nn.Conv2d(in_chans, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    neck = nn.Sequential(nn.Flatten(), nn.Linear(128 * positions, 1000), nn.ReLU())
    return PlainNetwork(body=body, neck=neck, fc=nn.Linear(1000, num_classes))


class AlexNet(torchvision.models.AlexNet):  # type: ignore[misc]
    """torchvision's AlexNet with its tensor names, and timm's method names."""

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
        raise ValueError("the image is too small for its pooling")
    network = AlexNet(num_classes=num_classes)
    if in_chans != 3:
        network.features[0] = nn.Conv2d(in_chans, 64, 11, stride=4, padding=2)
    return network
