"""What changes grey levels and colours of uint8 [B, H, W, C] batches, by given strengths and coins, one row per image."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L

Rows = NDArray[np.float64]


def per_image(values: Rows) -> torch.Tensor:
    """float64 [B] as float32 [B, 1, 1, 1]."""
    return torch.from_numpy(np.asarray(values)).float().view(-1, 1, 1, 1)


def to_uint8(levels: torch.Tensor) -> torch.Tensor:
    return levels.round().clamp_(0, 255).to(torch.uint8)


def grey_of(levels: torch.Tensor) -> torch.Tensor:
    """float32 [B, H, W, C] -> its brightness, float32 [B, H, W, 1]."""
    if levels.shape[3] == 1:
        return levels
    # term by term, not as a matrix product, whose order of summing may depend on the batch
    return LUMA[0] * levels[..., 0:1] + LUMA[1] * levels[..., 1:2] + LUMA[2] * levels[..., 2:3]


def _blend(base: torch.Tensor, levels: torch.Tensor, factors: Rows) -> torch.Tensor:
    """base + factor * (levels - base), float32 [B, H, W, C] or what broadcasts to it, as uint8."""
    return to_uint8((levels - base) * per_image(factors) + base)


def scale_brightness(images: torch.Tensor, factors: Rows) -> torch.Tensor:
    """Levels times `factors` [B]: 0 is black, 1 the image."""
    return to_uint8(images.float() * per_image(factors))


def scale_contrast(images: torch.Tensor, factors: Rows) -> torch.Tensor:
    """Away from the image's mean grey by `factors` [B]: 0 is that grey, 1 the image."""
    levels = images.float()
    # a sum of whole numbers in float64 is exact, so that the batch cannot change the mean
    mean = images.double().mean(dim=(1, 2), keepdim=True).float()
    return _blend(grey_of(mean), levels, factors)


def scale_saturation(images: torch.Tensor, factors: Rows) -> torch.Tensor:
    """Away from each pixel's grey by `factors` [B]: 0 is a grey image, 1 the image."""
    levels = images.float()
    return _blend(grey_of(levels), levels, factors)


def scale_sharpness(images: torch.Tensor, factors: Rows) -> torch.Tensor:
    """Away from Pillow's SMOOTH filter by `factors` [B]: 0 is smooth, 1 the image, above 1 sharper; the rim stays."""
    levels = images.float()
    if min(images.shape[1:3]) < 3:
        return images
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]])  # whole numbers: sums are exact in any order
    planes = levels.permute(0, 3, 1, 2)
    channels = planes.shape[1]
    inner = F.conv2d(planes, kernel.expand(channels, 1, 3, 3), groups=channels)
    smooth = levels.clone()
    smooth[:, 1:-1, 1:-1] = inner.permute(0, 2, 3, 1) / 13
    return _blend(smooth, levels, factors)


def posterize(images: torch.Tensor, bits: Rows) -> torch.Tensor:
    """Only the highest `bits` [B], rounded, of each level are kept."""
    lost = 8 - np.rint(bits).astype(np.int64)
    masks = torch.from_numpy((0xFF << lost) & 0xFF).to(torch.uint8)
    return images & masks.view(-1, 1, 1, 1)


def solarize(images: torch.Tensor, thresholds: Rows) -> torch.Tensor:
    """Levels at `thresholds` [B] and above are turned to their negative."""
    return torch.where(images.float() >= per_image(thresholds), 255 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """Each channel stretched so that its darkest level is 0 and its brightest 255; a flat channel stays."""
    low = images.amin(dim=(1, 2), keepdim=True).float()
    high = images.amax(dim=(1, 2), keepdim=True).float()
    flat = high == low
    scale = torch.where(flat, 1.0, 255 / (high - low).clamp(min=1))
    return to_uint8((images.float() - torch.where(flat, 0.0, low)) * scale)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Each channel's levels spread so that all are about equally frequent: Pillow's ImageOps.equalize, its rounding too."""
    pixels = images.numpy()
    spread = np.empty_like(pixels)
    for b in range(len(pixels)):
        for c in range(pixels.shape[3]):
            spread[b, :, :, c] = _equal_levels(pixels[b, :, :, c])[pixels[b, :, :, c]]
    return torch.from_numpy(spread)


def _equal_levels(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    counts = np.bincount(channel.reshape(-1), minlength=256)
    used = np.flatnonzero(counts)
    step = (counts.sum() - counts[used[-1]]) // 255
    if len(used) <= 1 or not step:
        return np.arange(256, dtype=np.uint8)
    below = np.concatenate([[0], np.cumsum(counts)[:-1]])
    levels: NDArray[np.uint8] = np.minimum((step // 2 + below) // step, 255).astype(np.uint8)
    return levels


def gaussian_blur(images: torch.Tensor, sigmas: Rows, max_sigma: float) -> torch.Tensor:
    """Blurred by `sigmas` [B] px, at most `max_sigma`; edges repeat outwards. Kernels reach three times `max_sigma`."""
    radius = max(1, math.ceil(3 * max_sigma))
    bells = np.exp(-0.5 * (np.arange(-radius, radius + 1) / np.maximum(sigmas, 1e-3)[:, None]) ** 2)
    kernels = torch.from_numpy(bells / bells.sum(axis=1, keepdims=True)).float()
    blurred = torch.empty_like(images)
    for b in range(len(images)):  # one image at a time: the batch must not decide how the sums are taken
        planes = images[b].permute(2, 0, 1)[:, None].float()
        rows = F.conv2d(_pad(planes, 0, radius), kernels[b].view(1, 1, -1, 1))
        columns = F.conv2d(_pad(rows, radius, 0), kernels[b].view(1, 1, 1, -1))
        blurred[b] = to_uint8(columns[:, 0].permute(1, 2, 0))
    return blurred


def _pad(planes: torch.Tensor, across: int, down: int) -> torch.Tensor:
    return F.pad(planes, (across, across, down, down), mode="replicate")


def add_noise(images: torch.Tensor, deviations: Rows, seeds: NDArray[np.uint32]) -> torch.Tensor:
    """Gaussian noise of `deviations` [B] grey levels, drawn for each image from its own generator, of `seeds` uint32 [B]."""
    noisy = torch.empty_like(images)
    for b in range(len(images)):
        generator = torch.Generator().manual_seed(int(seeds[b]))
        noise = torch.randn(images.shape[1:], generator=generator)
        noisy[b] = to_uint8(images[b].float() + float(deviations[b]) * noise)
    return noisy


def erase(images: torch.Tensor, coins: Rows, probability: float) -> torch.Tensor:
    """A box filled with one random colour where coins[b, 0] is below `probability`; `coins` [B, 5 + C].

    Area 2 % to a third of the image, aspect 0.3 to 3.3, log-uniform, clipped to the image: Zhong et al. (2017).
    """
    height, width, channels = images.shape[1:]
    erased = images.clone()
    for b in np.flatnonzero(coins[:, 0] < probability):
        area = height * width * (0.02 + (1 / 3 - 0.02) * coins[b, 1])
        aspect = math.exp((2 * coins[b, 2] - 1) * math.log(3.3))
        tall, wide = min(height, round(math.sqrt(area / aspect))), min(width, round(math.sqrt(area * aspect)))
        top, left = int(coins[b, 3] * (height - tall + 1)), int(coins[b, 4] * (width - wide + 1))
        colour = torch.from_numpy((coins[b, 5 : 5 + channels] * 256).astype(np.uint8))
        erased[b, top : top + tall, left : left + wide] = colour
    return erased
