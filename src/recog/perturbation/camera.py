"""What cameras, phones and messengers do to pictures: turned, cut off-centre, reduced, compressed, without colour."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image as Pictures

from recog.perturbation.filters import Image, from_picture, grey, pad, recompressed, sample, scaled, to_picture


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
