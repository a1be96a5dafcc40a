"""LeNet-5: LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document recognition", section II.B."""

from __future__ import annotations

from torch import nn

from recog.models.plain import PlainNetwork, num_positions


def lenet5(*, num_classes: int, in_chans: int, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """LeNet-5 for 32 px grey images: 61,706 parameters at 10 classes.

    As it is built since: every map of C3 sees all of S2, pooling has no parameters, and a linear layer takes the place of the
    distances to drawn digits. Images below 32 px are padded by 2 as the paper pads its 28 px digits; C5 covers
    whatever S4 leaves.
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
