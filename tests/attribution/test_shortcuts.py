import numpy as np
import pytest

from recog.attribution.shortcuts import MIN_IMAGES, find_shortcuts


def centred(count, size=64):
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    blob = np.exp(-(rows**2 + columns**2) / 0.05)
    return np.stack([blob + 0.05 * np.random.default_rng(i).random((size, size)) for i in range(count)])


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ("bottom right corner", slice(50, 62), slice(50, 62)),
        ("top left corner", slice(2, 14), slice(2, 14)),
        ("top edge", slice(0, 6), slice(0, 64)),
    ],
)
def test_a_class_whose_maps_lie_on_one_place_is_named(place, rows, columns):
    maps = np.concatenate([centred(10), 0.05 * centred(10)]).astype(np.float32)
    maps[10:, rows, columns] += 1
    labels = np.repeat([0, 1], 10)
    (hint,) = find_shortcuts(maps, labels, ["daisy", "rose"])
    assert (hint.label, hint.place, hint.num_images) == ("rose", place, 10)
    assert hint.share > 0.5
    assert "Look for a watermark" in hint.text


def test_a_frame_is_named():
    maps = 0.1 * centred(9).astype(np.float32)
    maps[:, :5] += 1
    maps[:, -5:] += 1
    maps[:, :, :5] += 1
    maps[:, :, -5:] += 1
    (hint,) = find_shortcuts(maps, np.zeros(9, np.int64), ["daisy"])
    assert hint.place == "border"
    assert hint.area == pytest.approx(1 - 0.75**2, abs=0.01)


def test_centred_even_and_few_maps_give_no_hint():
    assert find_shortcuts(centred(10).astype(np.float32), np.zeros(10, np.int64), ["daisy"]) == ()
    assert find_shortcuts(np.ones((10, 32, 32), np.float32), np.zeros(10, np.int64), ["daisy"]) == ()
    few = np.zeros((MIN_IMAGES - 1, 32, 32), np.float32)
    few[:, :4, :4] = 1
    assert find_shortcuts(few, np.zeros(len(few), np.int64), ["daisy"]) == ()
