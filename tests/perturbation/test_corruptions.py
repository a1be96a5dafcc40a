"""Corruptions against a second derivation of the published formulas: other libraries, loops, numbers by hand."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
from numpy.random import Generator, Philox
from PIL import Image
from scipy import ndimage

from recog.core.errors import ConfigError
from recog.perturbation import blur, camera, filters, pixels, weather
from recog.perturbation.corruptions import CORRUPTIONS, SEVERITIES, choose_corruptions, corrupt

RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur", "snow", "frost"),
    *("fog", "elastic_transform", "spatter", "rotation", "crop_shift"),
}


def chance(key=1):
    return Generator(Philox(key=key))


def picture(height=40, width=48, channels=3, key=7):
    """Whole levels, smooth but for some noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + c)) + np.cos(columns / (4 + c)) for c in range(channels)]
    image = np.stack(waves, axis=2) * 50 + 120 + chance(key).normal(0, 12, (height, width, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


def as_float(image):
    return image.astype(np.float32) / 255


GREY = np.full((100, 100, 3), 0.5, np.float32)


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


@pytest.mark.parametrize("sigma", [0.05, 1.0, 6.0])
def test_gaussian_is_scipys(sigma):
    image = as_float(picture())
    for mode, truncate in (("nearest", 4.0), ("reflect", 3.0)):
        expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode=mode, truncate=truncate)
        np.testing.assert_allclose(filters.gaussian(image, sigma, mode=mode, truncate=truncate), expected, atol=1e-5)


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


def test_plasma_is_the_diamond_square_algorithm():
    size, decay, random = 8, 2.0, chance(3)
    field = {(0, 0): 0.0}
    step, spread = size, 100.0
    while step >= 2:
        half = step // 2
        grid = range(0, size, step)
        for offset_row, offset_column, around in (
            (half, half, [(-half, -half), (-half, half), (half, -half), (half, half)]),
            (0, half, [(-half, 0), (half, 0), (0, -half), (0, half)]),
            (half, 0, [(-half, 0), (half, 0), (0, -half), (0, half)]),
        ):
            draws = random.uniform(-spread, spread, (len(grid), len(grid)))
            new = {}
            for i, row in enumerate(grid):
                for j, column in enumerate(grid):
                    r, c = row + offset_row, column + offset_column
                    neighbours = [field[(r + a) % size, (c + b) % size] for a, b in around]
                    new[r, c] = sum(neighbours) / 4 + spread * draws[i, j]
            field |= new
        step, spread = half, spread / decay
    values = np.array([[field[r, c] for c in range(size)] for r in range(size)])
    expected = (values - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(weather.plasma(size, decay, chance(3)), expected, atol=1e-9)


def test_fog_is_a_share_of_the_fractal():
    image = as_float(picture(32, 32))
    mist = weather.plasma(32, 2.0, chance())[..., None]
    expected = (image + 1.5 * mist) * image.max() / (image.max() + 1.5)
    np.testing.assert_allclose(weather.fog(image, (1.5, 2.0), chance()), expected, atol=1e-5)


def test_snow_adds_flakes_and_their_mirror_to_a_paler_image():
    flat = np.full((32, 32, 3), 0.2, np.float32)
    fallen = weather.snow(flat, (0.1, 0.2, 1, 9.0, 8, 3, 0.9), chance())  # no flake reaches the threshold
    assert np.unique(fallen).tolist() == pytest.approx([0.9 * 0.2 + 0.1 * (0.2 * 1.5 + 0.5)])
    flakes = weather.snow(flat, (0.1, 0.2, 1, 0.5, 8, 3, 0.9), chance()) - fallen
    np.testing.assert_allclose(flakes, flakes[::-1, ::-1], atol=1e-6)
    assert flakes.min() >= -1e-6
    assert flakes.max() > 0.05


def test_mud_has_its_colour_and_water_only_brightens():
    flat = np.full((64, 64, 3), 0.5, np.float32)
    muddy = weather.spatter(flat, (0.65, 0.1, 0.7, 0.66, 0.6, 1), chance())
    distances = np.abs(muddy - np.array([63, 42, 20], np.float32) / 255).max(axis=2)
    assert distances.min() < 0.1  # cover above 0.8
    wet = weather.spatter(flat, (0.65, 0.3, 1, 0.69, 0.5, 0), chance())
    assert wet.min() == pytest.approx(0.5)
    assert wet.max() == pytest.approx(0.5 + 0.5 * 238 / 255, abs=1e-4)  # strength 0.5, green and blue


def test_edges_are_thin_and_follow_strong_ones():
    levels = np.zeros((12, 12), np.uint8)
    levels[:, 6:] = 200
    found = weather.edges(levels, 50, 150)
    assert found.sum(axis=1).tolist() == [1] * 12
    weak = (levels // 10).astype(np.uint8)  # a step of 20: strength 80, below the high threshold
    assert not weather.edges(weak, 50, 150).any()


def test_equalised_by_hand():
    levels = np.array([[1, 1, 2, 3]], np.uint8)  # of the 2 above the lowest: 1 up to level 2, 2 up to level 3
    assert weather.equalised(levels).tolist() == [[0, 0, 128, 255]]
    assert weather.equalised(np.full((2, 2), 9, np.uint8)).tolist() == [[9, 9], [9, 9]]


def test_samples_are_scipys_with_mirrored_borders():
    image = as_float(picture(20, 31))
    rows = chance(2).uniform(-30, 50, (20, 31)).astype(np.float32)
    columns = chance(3).uniform(-40, 70, (20, 31)).astype(np.float32)
    planes = [
        ndimage.map_coordinates(image[..., c].astype(float), [rows, columns], order=1, mode="mirror") for c in range(3)
    ]
    np.testing.assert_allclose(filters.sample(image, rows, columns), np.stack(planes, 2), atol=1e-4)


def test_elastic_moves_three_corners_and_shifts_smoothly():
    image = as_float(picture(33, 40))
    np.testing.assert_allclose(blur.elastic_transform(image, (0, 0, 0), chance()), image, atol=1e-5)
    corners = np.array([[31, 27], [31, 5], [9, 5]])  # (column, row): 20 and 16, plus or minus 33 // 3
    moved = corners + chance().uniform(-4, 4, (3, 2))
    matrix = blur._inverse_affine(33, 40, 4, chance())
    np.testing.assert_allclose(matrix @ np.column_stack([moved, np.ones(3)]).T, corners.T, atol=1e-4)


def test_cameras():
    square = as_float(picture(31, 31))
    turned = camera.rotation(square, 90, chance())
    assert min(np.abs(turned - np.rot90(square, k)).max() for k in (1, 3)) < 1e-4
    shifted = camera.crop_shift(square, 0.1, chance())  # 3 px
    middle = shifted[5:-5, 5:-5]
    found = [np.array_equal(middle, square[5 + a : 26 + a, 5 + b : 26 + b]) for a in (-3, 3) for b in (-3, 3)]
    assert found.count(True) == 1
    mixed = camera.grey_mix(square, 1.0, chance())
    np.testing.assert_allclose(mixed, (square @ [0.299, 0.587, 0.114])[..., None].repeat(3, 2), atol=1e-5)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_takes_any_size_and_is_counted(name):
    for shape in ((32, 32, 3), (5, 9, 1), (70, 81, 3), (1, 1, 3)):
        image = picture(*shape)
        for severity in SEVERITIES:
            changed = corrupt(image, name, severity, seed=3, index=11)
            assert (changed.dtype, changed.shape) == (np.uint8, shape)
    again = corrupt(image := picture(32, 32), name, 4, seed=3, index=11)
    np.testing.assert_array_equal(again, corrupt(image, name, 4, seed=3, index=11))
    others = [corrupt(image, name, 4, seed=3, index=12), corrupt(image, name, 4, seed=4, index=11)]
    assert any(not np.array_equal(again, other) for other in others) == (name in RANDOM)
    assert not np.array_equal(again, image)


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur", "contrast", "pixelate", "jpeg_quality", "grey"])
def test_higher_severities_change_more(name):
    image = picture(96, 96)
    gaps = [np.abs(corrupt(image, name, s, seed=0, index=0).astype(int) - image).mean() for s in SEVERITIES]
    assert gaps == sorted(gaps)


def test_constants_depend_on_the_shorter_side():
    noise = CORRUPTIONS["gaussian_noise"]
    assert (noise.constant(1, 64, 300), noise.constant(1, 65, 300)) == (0.04, 0.08)


def test_choosing():
    assert len(choose_corruptions(["common"], channels=3)) == 15
    assert len(choose_corruptions(["extra"], channels=3)) == 4
    assert choose_corruptions(["fog", "camera"], channels=1) == (
        "fog",
        "rotation",
        "jpeg_quality",
        "resize_chain",
        "crop_shift",
    )
    assert len(choose_corruptions(["all"], channels=3)) == len(CORRUPTIONS)
    with pytest.raises(ConfigError, match="no corruption 'fogg'.*Did you mean 'fog'"):
        choose_corruptions(["fogg"], channels=3)
