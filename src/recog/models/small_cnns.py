"""Three small convolutional networks that most tutorials build, by the widths of their convolutions."""

from __future__ import annotations

from torch import nn

from recog.models.plain import PlainNetwork, num_positions


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
