"""Augmentation of uint8 batches by counted randomness: the same picture for the same (seed, epoch, sample), whoever draws it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from recog.core.chance import uniforms
from recog.core.errors import ConfigError
from recog.data.store import ImageStore

Policy = Literal["none", "affine", "crop"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    policy: Policy | None = None  # affine suits images of one small size, crop suits photos; planned if None
    mirror: bool | None = None  # left to right, for one in two; planned if None
    max_rotation_degrees: float = 12.0  # affine
    max_zoom: float = 0.12  # affine: scale in 1 -/+ this
    max_shift: float = 0.1  # affine: of the image's side
    min_area: float = 0.35  # crop: smallest part of the image's area
    max_aspect: float = 4 / 3  # crop: width : height from 1/this to this

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ConfigError(f"augment.min_area is {self.min_area}; it must be above 0 and at most 1.")
        if not 1 <= self.max_aspect <= 100:
            raise ConfigError(f"augment.max_aspect is {self.max_aspect}; it must be 1 or more, and at most 100.")
        if not 0 <= self.max_zoom < 1:
            raise ConfigError(f"augment.max_zoom is {self.max_zoom}; it must be at least 0 and below 1.")
        if not 0 <= self.max_rotation_degrees <= 180:
            raise ConfigError(f"augment.max_rotation_degrees is {self.max_rotation_degrees}; it must be from 0 to 180.")
        if not 0 <= self.max_shift <= 1:
            raise ConfigError(f"augment.max_shift is {self.max_shift}; it must be from 0 to 1, the image's side.")


def augment_batch(
    store: ImageStore,
    indices: NDArray[np.int64],
    config: AugmentConfig,
    *,
    image_size: tuple[int, int],
    seed: int,
    epoch: int,
) -> torch.Tensor:
    """Images `indices` int64 [B] of `store` as the network sees them in training: uint8 [B, H, W, C]."""
    if config.policy == "crop":
        coins = uniforms(seed, epoch, indices, "crop", 4)
        crops = [random_crop(store[i], coins[b], config, image_size=image_size) for b, i in enumerate(indices)]
        images = torch.stack(crops)
    else:
        images = torch.from_numpy(store.stack(indices))
        if config.policy == "affine":
            images = random_affine(images, uniforms(seed, epoch, indices, "affine", 4), config)
    if config.mirror:
        images = random_mirror(images, uniforms(seed, epoch, indices, "mirror", 1)[:, 0])
    return images


def random_mirror(images: torch.Tensor, coins: NDArray[np.float64]) -> torch.Tensor:
    """Mirror image b of [B, H, W, C] left to right where `coins[b]`, uniform in [0, 1), is below 1/2."""
    heads = torch.from_numpy(coins < 0.5).view(-1, 1, 1, 1)
    return torch.where(heads, images.flip(2), images)


def random_crop(
    image: NDArray[np.uint8],
    coins: NDArray[np.float64],
    config: AugmentConfig,
    *,
    image_size: tuple[int, int],
) -> torch.Tensor:
    """A box of random area and aspect out of `image` uint8 [H0, W0, C], resized to uint8 [H, W, C].

    The law is that of Szegedy et al. (2014) as the field draws it: area uniform in [min_area, 1], log aspect uniform;
    a box that does not fit is clipped to the image instead of drawn again, so that four `coins` are always enough.
    """
    height, width, _ = image.shape
    area = height * width * (config.min_area + (1 - config.min_area) * coins[0])
    aspect = math.exp((2 * coins[1] - 1) * math.log(config.max_aspect))
    box_height = min(height, max(1, round(math.sqrt(area / aspect))))
    box_width = min(width, max(1, round(math.sqrt(area * aspect))))
    top = int(coins[2] * (height - box_height + 1))
    left = int(coins[3] * (width - box_width + 1))
    box = torch.from_numpy(image[top : top + box_height, left : left + box_width])
    resized = F.interpolate(
        box.permute(2, 0, 1)[None], size=image_size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0)


def random_affine(images: torch.Tensor, coins: NDArray[np.float64], config: AugmentConfig) -> torch.Tensor:
    """Rotate, zoom and shift uint8 [B, H, W, C] by `coins` float64 [B, 4] in one bilinear sampling; edges repeat outwards."""
    signed = torch.from_numpy(2 * coins - 1).float()
    angle = signed[:, 0] * math.radians(config.max_rotation_degrees)
    zoom = 1 + signed[:, 1] * config.max_zoom
    shift = signed[:, 2:] * 2 * config.max_shift  # the grid's unit is half the side
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    planes = images.permute(0, 3, 1, 2).float()
    aspect = planes.shape[3] / planes.shape[2]  # the grid is square whatever the image is; a turn must not stretch
    matrices = torch.stack(
        [torch.stack([cos, -sin / aspect, shift[:, 0]], dim=1), torch.stack([sin * aspect, cos, shift[:, 1]], dim=1)],
        dim=1,
    )
    grid = F.affine_grid(matrices, list(planes.shape), align_corners=False)
    sampled = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
