"""Blurs and the elastic transform: corruptions after Hendrycks and Dietterich (2019); see `recog.perturbation.pixels`."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from recog.perturbation.filters import Image, disk, filter_mirrored, gaussian, motion, sample, to_picture, zoomed


def gaussian_blur(image: Image, sigma: float, chance: Generator) -> Image:
    return gaussian(image, sigma)


def defocus_blur(image: Image, lens: tuple[float, float], chance: Generator) -> Image:
    """`lens` is (radius of the disk, blur of its edge), both in px."""
    return filter_mirrored(image, disk(*lens))


def motion_blur(image: Image, path: tuple[int, float], chance: Generator) -> Image:
    """`path` is (radius, sigma); the direction is at random, at most 45 degrees from level."""
    return motion(image, *path, angle=float(chance.uniform(-45, 45)))


def zoom_blur(image: Image, zoom: tuple[float, float], chance: Generator) -> Image:
    """The mean of the image and of its enlargements by 1, 1 + step, ... below `zoom` = (end, step)."""
    end, step = zoom
    factors = np.arange(1, end, step)
    picture = to_picture(image)
    total = np.zeros((picture.height, picture.width, image.shape[2]), np.uint16)  # of at most 31 pictures
    for factor in factors:
        total += np.asarray(zoomed(picture, float(factor))).reshape(image.shape)
    return np.asarray((image + total.astype(np.float32) / 255) / (len(factors) + 1), np.float32)


def glass_blur(image: Image, glass: tuple[float, int, int], chance: Generator) -> Image:
    """`glass` is (sigma, reach in px, repeats): blurred, each pixel replaced by one within reach, and blurred again."""
    sigma, reach, repeats = glass
    blurred = np.floor(gaussian(image, sigma) * 255 + np.float32(1e-3)) / 255
    height, width, channels = blurred.shape
    flat = blurred.reshape(height * width, channels).astype(np.float32)
    for _ in range(repeats):
        flat = flat.take(_scatter(height, width, reach, chance), 0)
    return gaussian(flat.reshape(image.shape), sigma)


def _scatter(height: int, width: int, reach: int, chance: Generator) -> NDArray[np.intp]:
    """For each pixel, flat, the one whose value it ends with.

    The published program goes from the last pixel to the first and gives each the value that its random neighbour has by then:
    that of the neighbour's own neighbour, where that one had its turn before. The chains are followed for all pixels at once.
    """
    pixels = np.arange(height * width)
    target = pixels.copy()
    middle = np.s_[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    inside = target.reshape(height, width)[middle]
    moves = chance.integers(-reach, reach, (2, *inside.shape), np.int8)
    inside += moves[0] * np.intp(width) + moves[1]
    had_turn = target > pixels  # a neighbour at a later place had its turn before
    ends = np.where(had_turn, target, pixels)
    while True:
        further = ends.take(ends)
        if np.array_equal(further, ends):
            return target.take(ends)
        ends = further


def elastic_transform(image: Image, strength: tuple[float, float, float], chance: Generator) -> Image:
    """`strength` is (alpha, sigma, affine) as shares of the shorter side: an affine change, then smooth random shifts."""
    height, width = image.shape[:2]
    alpha, sigma, affine = (share * min(height, width) for share in strength)
    rows, columns = np.meshgrid(np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32), indexing="ij")
    matrix = _inverse_affine(height, width, affine, chance)
    warped = sample(
        image,
        matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2],
        matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2],
    )
    if not alpha:
        return warped
    shifts = chance.uniform(-1, 1, (height, width, 2)).astype(np.float32)
    shifts = gaussian(shifts, sigma, mode="reflect", truncate=3.0) * np.float32(alpha)
    return sample(warped, rows + shifts[..., 1], columns + shifts[..., 0])


def _inverse_affine(height: int, width: int, affine: float, chance: Generator) -> NDArray[np.float32]:
    """[2, 3]: (column, row, 1) of the result -> (column, row) of the image; three corners are moved by up to `affine` px."""
    centre, half = np.array([width // 2, height // 2]), min(height, width) // 3
    corners = centre + half * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + chance.uniform(-affine, affine, (3, 2))
    homogeneous = np.column_stack([moved, np.ones(3)])
    return np.asarray(np.linalg.lstsq(homogeneous, corners, rcond=None)[0].T, np.float32)
