"""Mixup and CutMix: two training images in one, and the soft targets that say so."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv

from recog.data.dataset import Targets
from recog.evaluation.measures.task import task_of

MIX_COINS = 4  # which of the two, the weight, and the box's place


def mix(
    images: torch.Tensor, partners: torch.Tensor, coins: NDArray[np.float64], *, mixup: float, cutmix: float
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """(mixed uint8 [B, H, W, C], weight of the image itself float64 [B]) of two uint8 batches by `coins` [B, 4].

    The weight is from Beta(alpha, alpha), with alpha `mixup` (Zhang et al., 2017) or `cutmix` (Yun et al., 2019); where
    both are above 0, a coin decides per image. CutMix's weight is the area that is left, in whole pixels.
    """
    cuts = coins[:, 0] < 0.5 if mixup > 0 and cutmix > 0 else np.full(len(coins), cutmix > 0)
    mixed = images.clone()
    weights = np.ones(len(coins))
    blended = np.flatnonzero(~cuts)
    if len(blended):
        weights[blended] = betaincinv(mixup, mixup, coins[blended, 1])
        share = torch.from_numpy(weights[blended]).float().view(-1, 1, 1, 1)
        others = partners[blended].float()
        mixed[blended] = ((images[blended].float() - others) * share + others).round_().to(torch.uint8)
    height, width = images.shape[1:3]
    for b in np.flatnonzero(cuts):
        top, left, bottom, right = cut_box(
            height, width, float(betaincinv(cutmix, cutmix, coins[b, 1])), coins[b, 2], coins[b, 3]
        )
        mixed[b, top:bottom, left:right] = partners[b, top:bottom, left:right]
        weights[b] = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, weights


def cut_box(height: int, width: int, kept: float, y: float, x: float) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a box of area 1 - `kept`, centred at (`y`, `x`) of the sides, cut off at the edges."""
    side = math.sqrt(1 - kept)
    tall, wide = int(height * side), int(width * side)
    top, left = int(y * height) - tall // 2, int(x * width) - wide // 2
    return max(0, top), max(0, left), min(height, top + tall), min(width, left + wide)


def soft_targets(own: Targets, partners: Targets, weights: NDArray[np.float64], num_classes: int) -> torch.Tensor:
    """float32 [B, K]: weight on the image's own labels, the rest on its partner's; both where the labels are one.

    `own` and `partners` are labels int64 [B], or zeros and ones [B, K].
    """
    shape, measures = (len(own), num_classes), task_of(own)
    own_classes, partner_classes = (measures.is_class(targets, *shape) for targets in (own, partners))
    mixed = weights[:, None] * own_classes + (1 - weights[:, None]) * partner_classes
    return torch.from_numpy(mixed).float()
