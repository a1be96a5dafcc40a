import json

import numpy as np
import pytest

from recog.core.errors import DataError
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.results.slices import parse_slicing, slice_by_name, slice_by_value


def test_quarters_worst_first():
    values = np.arange(80.0)
    is_correct = values >= 30  # all of the smallest 20 wrong, half of the next
    slicing = slice_by_value("size", values, is_correct, unit="px")
    assert [(part.name, part.num_images, part.num_correct) for part in slicing.slices] == [
        ("0 to 19 px", 20, 0),
        ("20 to 39 px", 20, 10),
        ("40 to 59 px", 20, 20),
        ("60 to 79 px", 20, 20),
    ]
    assert slicing.slices[1].accuracy == 0.5
    assert slicing.slices[1].accuracy_ci95 == wilson_interval(10, 20)


def test_equal_values_share_a_slice():
    values = np.array([100.0] * 60 + [200.0] * 20 + [300.0] * 20)
    names = {part.name: part.num_images for part in slice_by_value("size", values, values > 100, unit="px").slices}
    assert names == {"100 px": 60, "200 px": 20, "300 px": 20}  # the quartiles are 100, 100 and 200


@pytest.mark.parametrize("num_images", [2, 5, 19, 20, 35, 39, 100, 1001])
def test_at_least_two_slices_and_none_small_beyond_twenty(num_images):
    values = np.random.default_rng(num_images).permutation(num_images).astype(float)
    slices = slice_by_value("brightness", values, values > 3, unit="grey level").slices
    assert 2 <= len(slices) <= 4
    assert sum(part.num_images for part in slices) == num_images
    assert num_images < 20 or not any(part.is_small for part in slices)


def test_one_odd_image_is_a_marked_slice():
    values = np.array([7.0] * 50 + [9.0])
    slices = slice_by_value("size", values, np.ones(51, dtype=bool), unit="px").slices
    assert [(part.name, part.is_small) for part in slices] == [("7 px", False), ("9 px", True)]


def test_values_that_nobody_stated_are_a_slice():
    values = np.array([0.25] * 20 + [np.nan] * 15 + [0.5] * 20)
    slices = slice_by_value("dose", values, np.arange(55) >= 20).slices
    assert [(part.name, part.num_images, part.num_correct) for part in slices] == [
        ("0.25", 20, 0),
        ("0.5", 20, 20),
        ("(not stated)", 15, 15),
    ]


def test_names():
    slicing = slice_by_name("source-folder", ["b", "a", "b", "c"], np.array([True, True, False, True]))
    assert [(part.name, part.num_images, part.num_correct) for part in slicing.slices] == [
        ("b", 2, 1),
        ("a", 1, 1),
        ("c", 1, 1),
    ]
    assert all(part.is_small for part in slicing.slices)


def test_what_does_not_differ_cannot_be_sliced():
    with pytest.raises(DataError, match="all 3 images have the same size, 64 px.*Leave --slice size out"):
        slice_by_value("size", np.full(3, 64.0), np.ones(3, dtype=bool), unit="px")
    with pytest.raises(DataError, match="the same source-folder, 'a'"):
        slice_by_name("source-folder", ["a", "a"], np.ones(2, dtype=bool))


def test_round_trip_and_refusal():
    slicing = slice_by_value("size", np.arange(40.0), np.arange(40) % 3 == 0, unit="px")
    table = json.loads(json.dumps(slicing.to_dict()))
    assert parse_slicing(table, 40, 14) == slicing
    with pytest.raises(ValueError, match="every image once"):
        parse_slicing(table, 41, 14)
    table["slices"][0]["num_correct"] = 99
    with pytest.raises(ValueError, match="impossible counts"):
        parse_slicing(table, 40, 14)
