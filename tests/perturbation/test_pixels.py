"""Noise, light and compression by their formulas."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
from PIL import Image
from small_perturbations import GREY, as_float, chance, picture

from recog.perturbation import pixels


@pytest.mark.parametrize(
    ("change", "constant", "expected"),
    [
        (pixels.gaussian_noise, 0.08, 0.08),
        (pixels.speckle_noise, 0.15, 0.5 * 0.15),  # x * n, n of spread c
        (pixels.shot_noise, 60, np.sqrt(0.5 / 60)),  # a Poisson variable of mean 30 over 60: variance 30 / 3600
    ],
)
def test_noise_has_the_spread_of_its_formula(change, constant, expected):
    noisy = change(GREY, constant, chance())
    assert noisy.std() == pytest.approx(expected, rel=0.02)  # 30,000 values: 0.4 % standard error
    assert noisy.mean() == pytest.approx(0.5, abs=4 * expected / np.sqrt(30_000))


def test_impulses_are_half_salt_half_pepper():
    noisy = pixels.impulse_noise(GREY, 0.27, chance())
    assert (noisy == 0).mean() == pytest.approx(0.135, abs=0.008)  # 4 standard errors
    assert (noisy == 1).mean() == pytest.approx(0.135, abs=0.008)
    assert set(np.unique(noisy)) == {0, 0.5, 1}


def test_brightness_and_saturation_are_those_of_hsv():
    image = as_float(picture(6, 7))
    image[0, 0], image[0, 1] = 0, 0.4  # black and grey
    brighter, saturated = np.empty_like(image), np.empty_like(image)
    for place in np.ndindex(6, 7):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, image[place]))
        brighter[place] = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3))
        saturated[place] = colorsys.hsv_to_rgb(hue, min(1, saturation * 5 + 0.1), value)
    np.testing.assert_allclose(pixels.brightness(image, 0.3, chance()), brighter, atol=1e-5)
    np.testing.assert_allclose(pixels.saturate(image, (5, 0.1), chance()), saturated, atol=1e-5)


def test_contrast_keeps_the_mean():
    image = np.array([0.2, 0.4, 0.9], np.float32).reshape(1, 3, 1)
    assert pixels.contrast(image, 0.4, chance()).ravel().tolist() == pytest.approx([0.38, 0.46, 0.66])  # mean 0.5


def test_compression_and_pixels_are_pillows():
    image = picture(50, 70)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=10)
    expected = np.asarray(Image.open(file))
    np.testing.assert_allclose(pixels.jpeg(as_float(image), 10, chance()) * 255, expected, atol=1e-3)
    small = Image.fromarray(image).resize((21, 15), Image.Resampling.BOX).resize((70, 50), Image.Resampling.BOX)
    np.testing.assert_allclose(pixels.pixelate(as_float(image), 0.3, chance()) * 255, np.asarray(small), atol=1e-3)


def test_cameras():
    square = as_float(picture(31, 31))
    turned = pixels.rotation(square, 90, chance())
    assert min(np.abs(turned - np.rot90(square, k)).max() for k in (1, 3)) < 1e-4
    shifted = pixels.crop_shift(square, 0.1, chance())  # 3 px
    middle = shifted[5:-5, 5:-5]
    found = [np.array_equal(middle, square[5 + a : 26 + a, 5 + b : 26 + b]) for a in (-3, 3) for b in (-3, 3)]
    assert found.count(True) == 1
    mixed = pixels.grey_mix(square, 1.0, chance())
    np.testing.assert_allclose(mixed, (square @ [0.299, 0.587, 0.114])[..., None].repeat(3, 2), atol=1e-5)
