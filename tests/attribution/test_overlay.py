import io

import numpy as np
import pytest
from PIL import Image
from small_subjects import noise

from recog.attribution.overlay import SHOWN_PX, blend, colours, overlay_png, shown_values


def test_the_colours_are_those_of_matplotlib():
    matplotlib = pytest.importorskip("matplotlib")
    values = np.linspace(0, 1, 101)
    theirs = np.rint(255 * matplotlib.colormaps["viridis"](values)[:, :3])
    assert np.abs(colours(values).astype(int) - theirs).max() <= 4  # between sixteenths


def test_what_counts_against_is_not_drawn_and_the_top_is_one():
    shown = shown_values(np.array([[-3.0, 0.0], [1.0, 2.0]], np.float32))
    assert shown[0].tolist() == [0, 0]
    assert shown.max() == 1
    assert not shown_values(np.full((2, 2), -1, np.float32)).any()
    sparse = np.zeros((100, 100), np.float32)
    sparse[0, 0] = 5
    assert shown_values(sparse).max() == 1


@pytest.mark.parametrize("shape", [(8, 8, 1), (40, 64, 3), (400, 500, 3)])
def test_a_picture_is_large_enough_to_look_at(shape):
    picture = blend(noise(*shape), np.random.default_rng(0).random(shape[:2]).astype(np.float32))
    assert picture.dtype == np.uint8
    assert min(picture.shape[:2]) == max(SHOWN_PX, min(shape[:2]))
    assert picture.shape[2] == 3


def test_an_overlay_has_its_scale():
    picture = Image.open(io.BytesIO(overlay_png(noise(32, 32, 3), np.ones((32, 32), np.float32), "daisy\u202e")))
    assert picture.size == (2 * SHOWN_PX + 8, SHOWN_PX + 34)
    scale = np.asarray(picture)[SHOWN_PX + 15, SHOWN_PX + 8 : SHOWN_PX + 8 + SHOWN_PX // 3]
    np.testing.assert_array_equal(scale[[0, -1]], [[68, 1, 84], [253, 231, 37]])  # the ends of viridis
