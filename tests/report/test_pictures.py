import numpy as np
import pytest

from recog.report.pictures import confusion_picture, image_grid


def test_images_stand_side_by_side_each_where_it_belongs():
    images = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    images[0, ..., 0], images[1, ..., 1], images[2, ..., 2] = 200, 200, 200
    grid = image_grid(images)
    cell = 8 * 6 + 2  # enlarged to 48 px, 2 px apart
    assert grid.shape == (2 * cell + 2, 2 * cell + 2, 3)
    assert grid[10, 10].tolist() == [200, 0, 0]
    assert grid[10, cell + 10].tolist() == [0, 200, 0]
    assert grid[cell + 10, 10].tolist() == [0, 0, 200]
    assert grid[cell + 10, cell + 10].tolist() == [255, 255, 255]  # no fourth image
    assert grid[0, 0].tolist() == [255, 255, 255]


def test_grey_images_become_grey_pixels_and_no_more_than_asked_are_shown():
    images = np.full((40, 8, 8, 1), 77, dtype=np.uint8)
    assert image_grid(images).shape == image_grid(images[:16]).shape
    assert image_grid(images[:1])[20, 20].tolist() == [77, 77, 77]


@pytest.mark.parametrize("side", [224, 600])
def test_large_images_stay_within_the_limit(side):
    grid = image_grid(np.zeros((16, side, side, 3), dtype=np.uint8))
    assert max(grid.shape[:2]) <= 1024


def test_a_confusion_matrix_has_green_hits_and_red_misses():
    counts = np.array([[10, 0], [5, 5]])
    picture = confusion_picture(counts, ["cat", "dog"])
    cells = picture[-96:, -96:]  # two cells of 48 px, after names
    assert cells[4, 4].tolist() == [31, 119, 80]  # all of the first row
    assert cells[4, 52].tolist() == [255, 255, 255]  # none
    red = 255 + np.sqrt(0.5) * (np.array([196, 64, 32]) - 255)
    np.testing.assert_allclose(cells[52, 4], red, atol=0.5)
    green = 255 + 0.5 * (np.array([31, 119, 80]) - 255)
    np.testing.assert_allclose(cells[52, 52], green, atol=0.5)
    assert (cells[:48, :48] > 200).all(axis=2).any()  # its count, in white on dark
    assert (cells[48:, :48] < 60).all(axis=2).any()  # in black on light
    assert (cells[:48, 48:] == 255).all()  # no count where there is none


@pytest.mark.parametrize("num_classes", [2, 30, 31, 100, 1000])
def test_any_number_of_classes_gives_a_picture(num_classes):
    counts = np.eye(num_classes, dtype=np.int64)
    counts[0, 0] = 0  # a class without images
    picture = confusion_picture(counts, [f"class with a long name {i}" for i in range(num_classes)])
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] >= 90
    assert max(picture.shape[:2]) <= 1024 + 150  # and the names


def test_a_newline_in_a_class_name_is_drawn_escaped():
    counts = np.eye(2, dtype=np.int64)
    np.testing.assert_array_equal(confusion_picture(counts, ["a\nb", "c"]), confusion_picture(counts, [r"a\nb", "c"]))
