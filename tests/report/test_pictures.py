import base64
import io

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import ShapeError
from recog.report.pictures import THUMBNAIL_PX, confusion_picture, image_grid, read_pictures, thumbnail


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


def photo(height=300, width=400, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def opened(uri):
    head, _, data = uri.partition(";base64,")
    return head, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_thumbnail_of_a_photo_is_a_small_jpeg():
    head, image = opened(thumbnail(photo(3000, 4000)))
    assert head == "data:image/jpeg"
    assert image.size == (THUMBNAIL_PX, THUMBNAIL_PX * 3 // 4)
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_thumbnail_of_a_tiny_image_keeps_every_pixel():
    tiny = photo(8, 8, 1)
    head, image = opened(thumbnail(tiny))
    assert head == "data:image/png"
    assert (np.asarray(image) == tiny[:, :, 0]).all()
    assert image.info == {}


def test_thumbnail_of_a_very_long_image():
    _, image = opened(thumbnail(photo(1, 5000)))
    assert image.size == (THUMBNAIL_PX, 1)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_thumbnail_refuses_what_is_no_image(image):
    with pytest.raises(ShapeError, match="expected uint8"):
        thumbnail(image)


URI = thumbnail(np.zeros((4, 4, 3), np.uint8))


def test_pictures_come_from_tiles_and_from_the_island(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(
        f'<img data-name="a&amp;b.png" src="{URI}"><script type="application/json" id="gallery">'
        f'{{"images": {{"c.png": "{URI}", "evil": "https://example.org/x.png", "n": 3}}}}</script>'
    )
    assert read_pictures(page) == {"a&b.png": URI, "c.png": URI}


def test_a_page_without_pictures_and_no_page(tmp_path):
    (tmp_path / "report.html").write_text('<script id="gallery">{"images": </script><p>')
    assert read_pictures(tmp_path / "report.html") == {}
    assert read_pictures(tmp_path / "none.html") == {}


def test_the_page_of_a_run_has_the_pictures_of_its_errors(digits_run):
    pictures = read_pictures(digits_run.folder / "report.html")
    assert {error.name for error in digits_run.report.errors[:50]} <= set(pictures)
