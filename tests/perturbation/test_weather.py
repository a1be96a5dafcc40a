"""Weather by a second derivation."""

from __future__ import annotations

import numpy as np
import pytest
from small_perturbations import as_float, chance, picture

from recog.perturbation import weather


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
