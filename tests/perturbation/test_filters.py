"""Filters against SciPy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from small_perturbations import as_float, chance, picture

from recog.perturbation import filters


@pytest.mark.parametrize("sigma", [0.05, 1.0, 6.0])
def test_gaussian_is_scipys(sigma):
    image = as_float(picture())
    for mode, truncate in (("nearest", 4.0), ("reflect", 3.0)):
        expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode=mode, truncate=truncate)
        np.testing.assert_allclose(filters.gaussian(image, sigma, mode=mode, truncate=truncate), expected, atol=1e-5)


def test_motion_spreads_a_point_by_half_a_gaussian():
    image = np.zeros((9, 30, 1), np.float32)
    image[4, 20] = 1
    blurred = filters.motion(image, radius=2, sigma=1.5, angle=0.0)
    weights = np.exp(-(np.arange(5) ** 2) / (2 * 1.5**2))
    np.testing.assert_allclose(blurred[4, 20:15:-1, 0], weights / weights.sum(), atol=1e-6)
    assert blurred.sum() == pytest.approx(1.0)
    upright = filters.motion(image, radius=2, sigma=1.5, angle=-90.0)
    np.testing.assert_allclose(upright[4:9, 20, 0], weights / weights.sum(), atol=1e-6)


@pytest.mark.parametrize("factor", [1.01, 1.3, 2.5])
def test_zoomed_is_scipys_zoom_of_the_middle(factor):
    plane = picture(40, 40, 1)[..., 0].astype(np.float32)
    kept = int(np.ceil(40 / factor))
    start = (40 - kept) // 2
    large = ndimage.zoom(plane[start : start + kept, start : start + kept].astype(float), factor, order=1)
    trim = (len(large) - 40) // 2
    ours = np.asarray(filters.zoomed(Image.fromarray(plane), factor))
    np.testing.assert_allclose(ours, large[trim : trim + 40, trim : trim + 40], atol=0.01)


def test_samples_are_scipys_with_mirrored_borders():
    image = as_float(picture(20, 31))
    rows = chance(2).uniform(-30, 50, (20, 31)).astype(np.float32)
    columns = chance(3).uniform(-40, 70, (20, 31)).astype(np.float32)
    planes = [
        ndimage.map_coordinates(image[..., c].astype(float), [rows, columns], order=1, mode="mirror") for c in range(3)
    ]
    np.testing.assert_allclose(filters.sample(image, rows, columns), np.stack(planes, 2), atol=1e-4)
