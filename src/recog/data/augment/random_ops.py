"""TrivialAugment, RandAugment and AugMix: tables of operations, drawn per image by counted coins."""

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


@dataclass(frozen=True)
class RandomOp:
    """`apply(images uint8 [B, H, W, C], magnitudes [B])`; magnitudes run from 0 to the maximum, either way if `signed`."""

    apply: Apply
    trivial_max: float
    rand_max: float
    signed: bool = True


def _in_x(magnitudes: Rows) -> Rows:
    """[B, 2] of (x, y) for `magnitudes` [B]; reversed, in y."""
    return np.stack([magnitudes, np.zeros_like(magnitudes)], axis=1)


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
        "identity": RandomOp(lambda images, m: images, 0, 0),
        "shear_x": RandomOp(lambda images, m: _move(images, shear=_in_x(m)), 0.99, 0.3),
        "shear_y": RandomOp(lambda images, m: _move(images, shear=_in_x(m)[:, ::-1]), 0.99, 0.3),
        "shift_x": RandomOp(lambda images, m: _move(images, shift=_in_x(m)), 32 / 224, 150 / 331),
        "shift_y": RandomOp(lambda images, m: _move(images, shift=_in_x(m)[:, ::-1]), 32 / 224, 150 / 331),
        "rotate": RandomOp(lambda images, m: _move(images, degrees=m), 135, 30),
        "brightness": RandomOp(lambda images, m: colour.scale_brightness(images, 1 + m), 0.99, 0.9),
        "saturation": RandomOp(lambda images, m: colour.scale_saturation(images, 1 + m), 0.99, 0.9),
        "contrast": RandomOp(lambda images, m: colour.scale_contrast(images, 1 + m), 0.99, 0.9),
        "sharpness": RandomOp(lambda images, m: colour.scale_sharpness(images, 1 + m), 0.99, 0.9),
        "posterize": RandomOp(lambda images, m: colour.posterize(images, 8 - m), 6, 4, signed=False),
        "solarize": RandomOp(lambda images, m: colour.solarize(images, 255 - m), 255, 255, signed=False),
        "autocontrast": RandomOp(lambda images, m: colour.autocontrast(images), 0, 0),
        "equalize": RandomOp(lambda images, m: colour.equalize(images), 0, 0),
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


AUGMIX_CHAINS, AUGMIX_DEPTH = 3, 3  # chains of 1 to 3 operations
AUGMIX_SEVERITY = 3.0  # of 10: the strongest
AUGMIX_WEAKEST = 0.1  # of 10
AUGMIX_COINS = AUGMIX_CHAINS * (2 + COINS_PER_OP * AUGMIX_DEPTH) + 1


@dataclass(frozen=True)
class MixOp:
    """`apply(images uint8 [B, H, W, C], magnitudes [B])`; `maximum` is reached at severity 10."""

    apply: Apply
    maximum: float
    signed: bool = True


# As github.com/google-research/augmix has them; none of them is a corruption of ImageNet-C. Shifts are parts of the side.
AUGMIX_OPS: Mapping[str, MixOp] = MappingProxyType(
    {
        "autocontrast": MixOp(lambda images, m: colour.autocontrast(images), 0),
        "equalize": MixOp(lambda images, m: colour.equalize(images), 0),
        "posterize": MixOp(lambda images, m: colour.posterize(images, 4 - np.floor(m)), 4, signed=False),
        "rotate": MixOp(RANDOM_OPS["rotate"].apply, 30),
        "solarize": MixOp(lambda images, m: colour.solarize(images, 256 - np.floor(m)), 256, signed=False),
        "shear_x": MixOp(RANDOM_OPS["shear_x"].apply, 0.3),
        "shear_y": MixOp(RANDOM_OPS["shear_y"].apply, 0.3),
        "shift_x": MixOp(RANDOM_OPS["shift_x"].apply, 1 / 3),
        "shift_y": MixOp(RANDOM_OPS["shift_y"].apply, 1 / 3),
    }
)


def aug_mix(images: torch.Tensor, coins: Rows) -> torch.Tensor:
    """Each image blended with a mixture of three chains of operations on it; `coins` [B, AUGMIX_COINS].

    The chains' weights are from Dirichlet(1, 1, 1), the share of their mixture from Beta(1, 1), as Hendrycks et al. (2020),
    "AugMix", arXiv:1912.02781, algorithm 1; its consistency loss, which triples the cost of a step, is not used.
    """
    parts = coins[:, 1:].reshape(len(coins), AUGMIX_CHAINS, 2 + COINS_PER_OP * AUGMIX_DEPTH)
    weights = -np.log(1 - parts[:, :, 0])  # normalised exponentials are Dirichlet(1, ..., 1)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    mixture = torch.zeros(images.shape, dtype=torch.float32)
    for chain in range(AUGMIX_CHAINS):
        depths = 1 + np.floor(parts[:, chain, 1] * AUGMIX_DEPTH)
        ops = parts[:, chain, 2:].reshape(len(coins), AUGMIX_DEPTH, COINS_PER_OP)
        mixture += _column(weights[:, chain]) * _chained(images, depths, ops)
    share = _column(coins[:, 0])
    return ((1 - share) * images + share * mixture).round_().clamp_(0, 255).to(torch.uint8)


def _chained(images: torch.Tensor, depths: Rows, coins: NDArray[np.float64]) -> torch.Tensor:
    """`depths` [B] operations one after another, by `coins` [B, depth, 3]."""
    changed = images.clone()
    chosen = np.floor(coins[:, :, 0] * len(AUGMIX_OPS))
    for depth in range(AUGMIX_DEPTH):
        for number, op in enumerate(AUGMIX_OPS.values()):
            rows = np.flatnonzero((chosen[:, depth] == number) & (depths > depth))
            if len(rows):
                level = AUGMIX_WEAKEST + (AUGMIX_SEVERITY - AUGMIX_WEAKEST) * coins[rows, depth, 1]
                magnitudes = op.maximum * level / 10
                if op.signed:
                    magnitudes = np.where(coins[rows, depth, 2] < 0.5, -magnitudes, magnitudes)
                changed[rows] = op.apply(changed[rows], magnitudes)
    return changed


def _column(values: Rows) -> torch.Tensor:
    return torch.from_numpy(values).float().view(-1, 1, 1, 1)
