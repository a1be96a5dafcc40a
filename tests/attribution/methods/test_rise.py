import numpy as np
from small_subjects import corner_subject

from recog.attribution.methods import rise as module
from recog.attribution.methods.rise import rise


def test_the_region_that_counts_stands_out():
    images = np.full((2, 32, 32, 1), 220, np.uint8)
    maps = rise(corner_subject(), images, np.array([0, 0])).maps
    assert maps[0, :16, :16].mean() > 4 * np.abs(maps[0, 16:, 16:]).mean()
    np.testing.assert_array_equal(maps[0], maps[1])  # the same masks for every image


def test_an_answer_that_never_changes_gives_nothing():
    """An image of the hidden level looks the same behind every mask."""
    maps = rise(corner_subject(), np.zeros((1, 32, 32, 1), np.uint8), np.array([0])).maps
    np.testing.assert_allclose(maps, 0, atol=1e-6)


def test_half_of_the_image_is_shown_on_average():
    masks = np.stack([module._mask(number, (40, 24)) for number in range(300)])
    assert masks.shape == (300, 40, 24)
    assert masks.min() >= 0
    assert masks.max() <= 1
    # 300 masks of independent cells: standard error of a pixel's mean at most 0.5 / sqrt(300) = 0.03
    assert abs(masks.mean() - 0.5) < 0.03
