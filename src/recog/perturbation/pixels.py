"""Noise, light and colour, compression: corruptions after Hendrycks and Dietterich (2019), arXiv:1903.12261; and what cameras,
phones and messengers do to pictures.

The formulas of the first are those of the program that made ImageNet-C and CIFAR-10-C (github.com/hendrycks/robustness). A
function takes float32 [H, W, C] in [0, 1], the constant of a severity and a source of chance, and returns the same form, not yet
clipped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image as Pictures

from recog.perturbation.filters import (
    Image,
    from_picture,
    grey,
    least_of,
    pad,
    recompressed,
    sample,
    scaled,
    to_picture,
    value_of,
)


def gaussian_noise(image: Image, scale: float, chance: Generator) -> Image:
    return image + np.float32(scale) * chance.standard_normal(image.shape, np.float32)


def shot_noise(image: Image, photons: float, chance: Generator) -> Image:
    """Poisson noise of `photons` at white."""
    return (chance.poisson(image * photons) / photons).astype(np.float32)


def impulse_noise(image: Image, amount: float, chance: Generator) -> Image:
    """Salt and pepper, each on half of a share `amount` of the values."""
    draws = chance.random(image.shape, np.float32)
    return np.where(draws < amount / 2, np.float32(0), np.where(draws < amount, np.float32(1), image))


def speckle_noise(image: Image, scale: float, chance: Generator) -> Image:
    return image + image * (np.float32(scale) * chance.standard_normal(image.shape, np.float32))


def contrast(image: Image, factor: float, chance: Generator) -> Image:
    means = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray((image - means) * np.float32(factor) + means, np.float32)


def brightness(image: Image, gain: float, chance: Generator) -> Image:
    """`gain` added to the value of HSV. Of one hue and saturation, colours are proportional to the value."""
    value = value_of(image)
    brighter = np.minimum(value + np.float32(gain), 1)
    is_black = value == 0
    ratio = brighter / np.where(is_black, np.float32(1), value)
    return np.asarray(np.where(is_black, brighter, image * ratio), np.float32)


def saturate(image: Image, change: tuple[float, float], chance: Generator) -> Image:
    """The saturation of HSV times change[0] plus change[1]. Grey pixels have hue 0, which is red."""
    if image.shape[2] == 1:
        return image
    factor, offset = change
    value, least = value_of(image), least_of(image)
    span, one = value - least, np.float32(1)
    is_grey = span == 0
    wanted = np.clip(span / np.where(value == 0, one, value) * np.float32(factor) + np.float32(offset), 0, 1)
    # a channel is value * (1 - saturation * depth), its depth from 0 to 1 by the hue
    red = np.array([0, 1, 1], np.float32)
    depth = np.where(is_grey, red, (value - image) / np.where(is_grey, one, span))
    return np.asarray(value * (one - wanted * depth), np.float32)


def jpeg(image: Image, quality: int, chance: Generator) -> Image:
    return from_picture(recompressed(to_picture(image), quality))


def pixelate(image: Image, factor: float, chance: Generator) -> Image:
    """Reduced to `factor` of its sides and enlarged again, both by means over boxes."""
    picture = to_picture(image)
    small = picture.resize(scaled(picture, factor), Pictures.Resampling.BOX)
    return from_picture(small.resize(picture.size, Pictures.Resampling.BOX))


def rotation(image: Image, degrees: float, chance: Generator) -> Image:
    """Turned about the middle, left or right at random; what comes in at the corners is mirrored."""
    height, width = image.shape[:2]
    angle = math.radians(degrees) * (1 if chance.random() < 0.5 else -1)
    rows, columns = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    return sample(
        image,
        (math.cos(angle) * rows - math.sin(angle) * columns + (height - 1) / 2).astype(np.float32),
        (math.sin(angle) * rows + math.cos(angle) * columns + (width - 1) / 2).astype(np.float32),
    )


def crop_shift(image: Image, share: float, chance: Generator) -> Image:
    """Moved by `share` of each side in one of the four diagonal directions; the free border is mirrored."""
    height, width = image.shape[:2]
    down, right = round(share * height), round(share * width)
    top, left = np.where(chance.random(2) < 0.5, 0, [2 * down, 2 * right])
    return pad(image, down, right, "reflect")[top : top + height, left : left + width]


def resize_chain(image: Image, factor: float, chance: Generator) -> Image:
    """Reduced to `factor` in two steps, as by a phone and a messenger, with JPEG of quality 85 after each, and enlarged."""
    picture = to_picture(image)
    small = picture.resize(scaled(picture, math.sqrt(factor)), Pictures.Resampling.BICUBIC)
    small = recompressed(small, 85).resize(scaled(picture, factor), Pictures.Resampling.BILINEAR)
    return from_picture(recompressed(small, 85).resize(picture.size, Pictures.Resampling.BICUBIC))


def grey_mix(image: Image, share: float, chance: Generator) -> Image:
    """`share` of the colour is replaced by luma; 1 is a grey picture."""
    return image if image.shape[2] == 1 else image * np.float32(1 - share) + np.float32(share) * grey(image)
