"""Augmentation of uint8 batches by counted randomness: the same picture for the same (seed, epoch, draw), whoever draws it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv

from recog.core.chance import random_words, uniforms
from recog.data.augment import colour
from recog.data.augment.geometry import (
    CROP_COINS,
    affine_matrices,
    crop_batch,
    crop_small,
    is_small,
    mirror,
    random_boxes,
    translate,
    warp,
)
from recog.data.augment.policies import AugmentConfig, Strengths
from recog.data.augment.random_ops import (
    AUGMIX_COINS,
    COINS_PER_OP,
    RAND_COUNT,
    aug_mix,
    rand_augment,
    trivial_augment,
)
from recog.data.dataset import Targets
from recog.data.store import Images
from recog.evaluation.measures.task import task_of


@dataclass(frozen=True)
class Chance:
    """The coins of some draws: a draw n is image n % N, seen for the (n // N)-th further time in the epoch."""

    seed: int
    epoch: int
    draws: NDArray[np.int64]  # [B]

    def coins(self, stream: str, count: int) -> NDArray[np.float64]:
        """float64 [B, count] uniform in [0, 1)."""
        return uniforms(self.seed, self.epoch, self.draws, stream, count)

    def mirrored(self) -> NDArray[np.bool_]:
        """bool [B]: one draw in two in the first epoch, and from epoch to epoch the other half.

        So any two epochs in a row show both sides of every image. Jordan (2024), arXiv 2404.00498, section 3.6.
        """
        first_coins = uniforms(self.seed, 0, self.draws, "mirror", 1)[:, 0]
        return (first_coins < 0.5) ^ (self.epoch % 2 == 1)

    def signed(self, stream: str, count: int) -> NDArray[np.float64]:
        """float64 [B, count] uniform in [-1, 1)."""
        return 2 * self.coins(stream, count) - 1


def augment_batch(
    store: Images,
    draws: NDArray[np.int64],
    config: AugmentConfig,
    *,
    image_size: tuple[int, int],
    seed: int,
    epoch: int,
) -> torch.Tensor:
    """`draws` int64 [B] of `store` as the network sees them in training, but for mixing: uint8 [B, H, W, C]."""
    chance = Chance(seed, epoch, draws)
    strengths = config.strengths
    images = _place(store, chance, config, strengths, image_size)
    if strengths.max_rotation_degrees or strengths.max_zoom or strengths.max_shift:
        images = _random_warp(images, chance, strengths)
    if strengths.translate_px:
        span = 2 * strengths.translate_px + 1
        shifts = (chance.coins("translate", 2) * span).astype(np.int64) - strengths.translate_px
        images = translate(images, shifts, strengths.translate_px)
    if strengths.random_ops == "trivial":
        images = trivial_augment(images, chance.coins("trivial", COINS_PER_OP), upright=not config.mirror)
    elif strengths.random_ops == "rand":
        coins = chance.coins("rand", COINS_PER_OP * RAND_COUNT)
        images = rand_augment(images, coins, upright=not config.mirror)
    elif strengths.random_ops == "augmix":
        images = aug_mix(images, chance.coins("augmix", AUGMIX_COINS))
    return _colour(images, chance, strengths)


def _place(
    store: Images, chance: Chance, config: AugmentConfig, strengths: Strengths, image_size: tuple[int, int]
) -> torch.Tensor:
    """Cut, resized and mirrored images, uint8 [B, H, W, C]."""
    indices = chance.draws % len(store)
    mirrored = chance.mirrored() if config.mirror else np.zeros(len(indices), dtype=np.bool_)
    shape = store.one_shape
    if not config.needs_larger_images and shape is not None and shape[:2] == image_size:
        images = torch.from_numpy(store.stack(indices))
        return mirror(images, mirrored) if config.mirror else images
    coins = chance.coins("crop", CROP_COINS)
    law = {"min_area": strengths.min_area, "max_aspect": strengths.max_aspect}
    if shape is not None and is_small(shape, image_size):
        sizes = np.broadcast_to(np.array(shape[:2]), (len(indices), 2))
        return crop_small(store.stack(indices), random_boxes(sizes, coins, **law), mirrored, image_size)
    sources = store.fetch(indices)
    sizes = np.array([image.shape[:2] for image in sources], dtype=np.int64)
    return crop_batch(sources, random_boxes(sizes, coins, **law), mirrored, image_size)


def _random_warp(images: torch.Tensor, chance: Chance, strengths: Strengths) -> torch.Tensor:
    """Rotate, zoom and shift, in one sampling."""
    signed = chance.signed("affine", 4)
    matrices = affine_matrices(
        degrees=signed[:, 0] * strengths.max_rotation_degrees,
        zoom=1 + signed[:, 1] * strengths.max_zoom,
        shift=signed[:, 2:] * strengths.max_shift,
    )
    return warp(images, matrices)


def _colour(images: torch.Tensor, chance: Chance, strengths: Strengths) -> torch.Tensor:
    if strengths.brightness:
        images = colour.scale_brightness(images, 1 + strengths.brightness * chance.signed("brightness", 1)[:, 0])
    if strengths.contrast:
        images = colour.scale_contrast(images, 1 + strengths.contrast * chance.signed("contrast", 1)[:, 0])
    if strengths.saturation:
        images = colour.scale_saturation(images, 1 + strengths.saturation * chance.signed("saturation", 1)[:, 0])
    if strengths.blur:
        coins = chance.coins("blur", 2)
        rows = np.flatnonzero(coins[:, 0] < 0.5)
        images = images.clone()
        images[rows] = colour.gaussian_blur(images[rows], strengths.blur * coins[rows, 1], strengths.blur)
    if strengths.noise:
        seeds = random_words(chance.seed, chance.epoch, chance.draws, "noise pixels", 1)[:, 0]
        images = colour.add_noise(images, strengths.noise * chance.coins("noise", 1)[:, 0], seeds)
    if strengths.erasing:
        images = colour.erase(images, chance.coins("erasing", 5 + images.shape[3]), strengths.erasing)
    return images


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
