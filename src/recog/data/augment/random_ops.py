"""TrivialAugment and RandAugment: one table of operations, drawn per image by counted coins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from recog.data.augment import colour
from recog.data.augment.geometry import affine_matrices, warp

NUM_LEVELS = 31  # strengths 0 to 30, in both papers' code
RAND_LEVEL = 9  # of 30, and two operations: RandAugment as Cubuk et al. (2019) set it for ResNet-50
RAND_COUNT = 2
COINS_PER_OP = 3  # which operation, how strong, which way
# most where mirroring is off, as for digits and text: turned further, a 6 is a 9
UPRIGHT_MAX: Mapping[str, float] = MappingProxyType({"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3})

Rows = NDArray[np.float64]
Apply = Callable[[torch.Tensor, Rows], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class RandomOp:
    """`apply(images uint8 [B, H, W, C], magnitudes [B])`; magnitudes run from 0 to the maximum, either way if `signed`."""

    apply: Apply
    trivial_max: float
    rand_max: float
    signed: bool = True


def _shear_x(images: torch.Tensor, magnitudes: Rows) -> torch.Tensor:
    return _move(images, shear=np.stack([magnitudes, np.zeros_like(magnitudes)], axis=1))


def _shear_y(images: torch.Tensor, magnitudes: Rows) -> torch.Tensor:
    return _move(images, shear=np.stack([np.zeros_like(magnitudes), magnitudes], axis=1))


def _shift_x(images: torch.Tensor, magnitudes: Rows) -> torch.Tensor:
    return _move(images, shift=np.stack([magnitudes, np.zeros_like(magnitudes)], axis=1))


def _shift_y(images: torch.Tensor, magnitudes: Rows) -> torch.Tensor:
    return _move(images, shift=np.stack([np.zeros_like(magnitudes), magnitudes], axis=1))


def _rotate(images: torch.Tensor, magnitudes: Rows) -> torch.Tensor:
    return _move(images, degrees=magnitudes)


def _move(
    images: torch.Tensor,
    *,
    degrees: Rows | None = None,
    shift: Rows | None = None,
    shear: Rows | None = None,
) -> torch.Tensor:
    count = len(images)
    matrices = affine_matrices(
        degrees=np.zeros(count) if degrees is None else degrees,
        zoom=np.ones(count),
        shift=np.zeros((count, 2)) if shift is None else shift,
        shear=shear,
    )
    return warp(images, matrices)


# Maxima of TrivialAugment's wide space (Mueller and Hutter, 2021) and of RandAugment's, as torchvision has them; shifts as
# parts of the side: 32 of 224 px, and 150 of 331 px.
RANDOM_OPS: Mapping[str, RandomOp] = MappingProxyType(
    {
        "identity": RandomOp(apply=lambda images, m: images, trivial_max=0, rand_max=0),
        "shear_x": RandomOp(apply=_shear_x, trivial_max=0.99, rand_max=0.3),
        "shear_y": RandomOp(apply=_shear_y, trivial_max=0.99, rand_max=0.3),
        "shift_x": RandomOp(apply=_shift_x, trivial_max=32 / 224, rand_max=150 / 331),
        "shift_y": RandomOp(apply=_shift_y, trivial_max=32 / 224, rand_max=150 / 331),
        "rotate": RandomOp(apply=_rotate, trivial_max=135, rand_max=30),
        "brightness": RandomOp(
            apply=lambda images, m: colour.scale_brightness(images, 1 + m), trivial_max=0.99, rand_max=0.9
        ),
        "saturation": RandomOp(
            apply=lambda images, m: colour.scale_saturation(images, 1 + m), trivial_max=0.99, rand_max=0.9
        ),
        "contrast": RandomOp(
            apply=lambda images, m: colour.scale_contrast(images, 1 + m), trivial_max=0.99, rand_max=0.9
        ),
        "sharpness": RandomOp(
            apply=lambda images, m: colour.scale_sharpness(images, 1 + m), trivial_max=0.99, rand_max=0.9
        ),
        "posterize": RandomOp(
            apply=lambda images, m: colour.posterize(images, 8 - m), trivial_max=6, rand_max=4, signed=False
        ),
        "solarize": RandomOp(
            apply=lambda images, m: colour.solarize(images, 255 - m), trivial_max=255, rand_max=255, signed=False
        ),
        "autocontrast": RandomOp(apply=lambda images, m: colour.autocontrast(images), trivial_max=0, rand_max=0),
        "equalize": RandomOp(apply=lambda images, m: colour.equalize(images), trivial_max=0, rand_max=0),
    }
)


def trivial_augment(images: torch.Tensor, coins: Rows, *, upright: bool) -> torch.Tensor:
    """One operation per image, each as likely as the others, at a strength from 0 to 30 thirtieths; `coins` [B, 3]."""
    levels = np.floor(coins[:, 1] * NUM_LEVELS)
    return _apply_chosen(images, coins, levels, trivial=True, upright=upright)


def rand_augment(images: torch.Tensor, coins: Rows, *, upright: bool) -> torch.Tensor:
    """Two operations per image, one after the other, both at 9 of 30; `coins` [B, 6]."""
    for n in range(RAND_COUNT):
        own = coins[:, COINS_PER_OP * n : COINS_PER_OP * (n + 1)]
        images = _apply_chosen(images, own, np.full(len(images), RAND_LEVEL), trivial=False, upright=upright)
    return images


def _apply_chosen(images: torch.Tensor, coins: Rows, levels: Rows, *, trivial: bool, upright: bool) -> torch.Tensor:
    """Images that drew the same operation go through it together."""
    chosen = (coins[:, 0] * len(RANDOM_OPS)).astype(np.int64)
    changed = images.clone()
    for number, (name, op) in enumerate(RANDOM_OPS.items()):
        rows = np.flatnonzero(chosen == number)
        if not len(rows):
            continue
        top = op.trivial_max if trivial else op.rand_max
        if upright:
            top = min(top, UPRIGHT_MAX.get(name, top))
        magnitudes = top * levels[rows] / (NUM_LEVELS - 1)
        if op.signed:
            magnitudes = np.where(coins[rows, 2] < 0.5, -magnitudes, magnitudes)
        changed[rows] = op.apply(images[rows], magnitudes)
    return changed
