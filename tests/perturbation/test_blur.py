"""Blurs and the elastic transform by a second derivation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from small_perturbations import as_float, chance, picture

from recog.perturbation import blur, filters


@pytest.mark.parametrize("lens", [(3, 0.1), (10, 0.5)])
def test_defocus_is_the_filter_with_the_blurred_disk(lens):
    radius, alias = lens
    reach = max(8, radius)
    inside = np.array(
        [[float(x * x + y * y <= radius * radius) for x in range(-reach, reach + 1)] for y in range(-reach, reach + 1)]
    )
    half = 1 if radius <= 8 else 2
    line = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * alias**2))
    kernel = ndimage.correlate(inside, np.outer(line, line) / line.sum() ** 2, mode="mirror")
    image = as_float(picture())
    channels = [ndimage.correlate(image[..., c].astype(float), kernel / kernel.sum(), mode="mirror") for c in range(3)]
    np.testing.assert_allclose(blur.defocus_blur(image, lens, chance()), np.stack(channels, 2), atol=1e-5)


def test_zoom_blur_is_the_mean_of_the_zoomed():
    image = picture(40, 40)
    parts = [as_float(image)]
    for factor in np.arange(1, 1.06, 0.01):
        planes = [
            np.asarray(filters.zoomed(Image.fromarray(image[..., c].astype(np.float32)), factor)) for c in range(3)
        ]
        parts.append(np.stack(planes, 2) / 255)
    np.testing.assert_allclose(
        blur.zoom_blur(as_float(image), (1.06, 0.01), chance()), np.mean(parts, 0), atol=0.5 / 255
    )


def test_glass_moves_pixels_as_the_published_loop():
    height, width, reach = 14, 17, 2
    moves = chance(5).integers(-reach, reach, (2, height - 2 * reach, width - 2 * reach), np.int8)
    values = np.arange(height * width).reshape(height, width)
    for row in range(height - reach, reach, -1):
        for column in range(width - reach, reach, -1):
            down, right = moves[:, row - reach - 1, column - reach - 1]
            # both sides of the published exchange are views of one array, so only the first is written
            values[row, column] = values[row + down, column + right]
    np.testing.assert_array_equal(blur._scatter(height, width, reach, chance(5)), values.ravel())


def test_elastic_moves_three_corners_and_shifts_smoothly():
    image = as_float(picture(33, 40))
    np.testing.assert_allclose(blur.elastic_transform(image, (0, 0, 0), chance()), image, atol=1e-5)
    corners = np.array([[31, 27], [31, 5], [9, 5]])  # (column, row): 20 and 16, plus or minus 33 // 3
    moved = corners + chance().uniform(-4, 4, (3, 2))
    matrix = blur._inverse_affine(33, 40, 4, chance())
    np.testing.assert_allclose(matrix @ np.column_stack([moved, np.ones(3)]).T, corners.T, atol=1e-4)
